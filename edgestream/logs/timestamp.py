"""RFC 3339 times with nanoseconds, as log files have them and as ``kubectl logs`` prints them.

Go's parser is lenient where the standard is not: it takes a comma for the decimal point, an hour of
one digit, any number of fraction digits (the first nine count) and offsets up to 24:60. The strict
form, which Go uses for JSON, has none of these. Times are whole nanoseconds since the epoch, as
``datetime`` stops at microseconds.
"""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

SECOND = 1_000_000_000

ZERO_TIME_NS = -62_135_596_800 * SECOND
"""Go's zero time, 0001-01-01T00:00:00Z."""

_LENIENT = re.compile(rb"(\d{4}-\d\d-\d\d)T(\d{1,2}:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)")
_STRICT = re.compile(
    rb"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d+))?"
    rb"(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)
_EPOCH = datetime(1970, 1, 1)
_DAYS_IN_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_BEFORE_EPOCH = 719_468  # from 0000-03-01 to 1970-01-01
_DAYS_IN_ERA = 146_097  # 400 years


class Stamp(NamedTuple):
    """A point in time: nanoseconds since the epoch, and the text that is printed for it.

    The text has nine fraction digits and the zone as it was read, an offset of zero being ``Z``.
    """

    ns: int
    text: bytes


def parse_stamp(text: bytes, *, strict: bool = False) -> Stamp | None:
    """The time that the whole of ``text`` spells, or None."""
    found = (_STRICT if strict else _LENIENT).fullmatch(text)
    if found is None:
        return None
    date, clock, fraction, zone = found.groups()
    base = _whole_seconds(date, clock, zone)
    if base is None:
        return None
    seconds, second_text, zone_text = base
    digits = fraction[:9].ljust(9, b"0") if fraction else b"000000000"
    return Stamp(seconds * SECOND + int(digits), second_text + digits + zone_text)


def clock_text(ns: int, zone: bytes) -> bytes:
    """What a clock in the zone shows at that time, with nine fraction digits and without the zone.

    Texts of one zone sort as their times do. A time outside the years 1 to 9999 gives a text that
    sorts before or behind all others.
    """
    offset = _offset_minutes(zone)
    assert offset is not None, zone
    seconds, nanos = divmod(ns + offset * 60 * SECOND, SECOND)
    try:
        clock = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return b"" if seconds < 0 else b"~"
    return b"%b.%09d" % (clock.isoformat().encode(), nanos)


@lru_cache(maxsize=1024)
def _whole_seconds(date: bytes, clock: bytes, zone: bytes) -> tuple[int, bytes, bytes] | None:
    """Epoch seconds and the two printed parts; cached, because neighbours share their second."""
    days = _days_since_epoch(date)
    hour, minute, second = map(int, clock.split(b":"))
    offset = _offset_minutes(zone)
    if days is None or offset is None or hour > 23 or minute > 59 or second > 59:
        return None
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset * 60
    return seconds, b"%bT%02d:%02d:%02d." % (date, hour, minute, second), _zone_text(offset)


def _days_since_epoch(date: bytes) -> int | None:
    year, month, day = map(int, date.split(b"-"))
    if not 1 <= month <= 12:
        return None
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _DAYS_IN_MONTH[month - 1] + (leap and month == 2):
        return None
    # Years that begin in March put the leap day last, so that months have a fixed first day.
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _DAYS_IN_ERA + day_of_era - _DAYS_BEFORE_EPOCH


def _offset_minutes(zone: bytes) -> int | None:
    if zone == b"Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 24 or minutes > 60:
        return None
    return (hours * 60 + minutes) * (-1 if zone.startswith(b"-") else 1)


def _zone_text(offset: int) -> bytes:
    if offset == 0:
        return b"Z"
    hours, minutes = divmod(abs(offset), 60)
    return b"%c%02d:%02d" % (b"-" if offset < 0 else b"+", hours, minutes)
