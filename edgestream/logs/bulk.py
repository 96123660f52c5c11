"""Whole blocks of well-formed records at once.

Nearly all records of a log are full lines (tag ``F``) with a time of one to nine fraction digits.
A block of nothing but such records is turned by one pass of a compiled expression; whatever else is
in it, however rare, the block is left to the reader that goes record by record. What the
expressions match is therefore exact, down to the number of days in a month.

Matching the header costs most of the time. As neighbours share their hour and their zone, an hour
that is met twice in a row gets an expression in which both are literal text.
"""

import re

from edgestream.logs.timestamp import SECOND, parse_stamp

_YEAR_LEAP = rb"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    rb"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])"
    rb"|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    rb"|" + _YEAR_LEAP + rb"-02-29)"
)
_HOUR = _DATE + rb"T(?:[01]\d|2[0-3])"
_REST = rb":[0-5]\d:[0-5]\d\.\d{1,9}"
_ZONE = rb"(?:Z|[+-](?!00:00)(?:[01]\d|2[0-3]):[0-5]\d)"
_STAMP_WIDTH = len("2006-01-02T15:04:05.000000000")


class BulkFormatter:
    """Formats blocks of well-formed full records of the wanted stream; refuses all others."""

    def __init__(self, *, timestamps: bool, stream: bytes | None, since_ns: int | None) -> None:
        self._timestamps = timestamps
        self._stream = stream or rb"std(?:out|err)"
        self._since_ns = since_ns
        self._first = re.compile(rb"(%b)(%b)(%b) %b F " % (_HOUR, _REST, _ZONE, self._stream))
        self._any_header = self._header_of(_HOUR, _ZONE)
        self._header = self._any_header
        self._shared = (b"", b"")
        self._kept: bool | None = None

    def format(self, block: bytes, records: int) -> bytes | None:
        """What a client sees of the block, or None where it has to be read record by record.

        ``block`` is ``records`` whole lines, each with its newline. The first of them must begin a
        line of output; then the record after the block does too.
        """
        first = self._first.match(block)
        if first is None:
            return None
        hour, zone = first[1], first[3]
        if (hour, zone) != self._shared:
            self._shared = (hour, zone)
            self._header = self._any_header
            self._kept = self._hour_kept(hour, zone)
        elif self._header is self._any_header:
            self._header = self._header_of(hour, re.escape(zone))
        if self._kept is None or (self._since_ns is not None and self._header is self._any_header):
            return None
        turn = _keep_times if self._timestamps else _drop_headers
        output = turn(self._header, first, block, records)
        return output if output is None or self._kept else b""

    def _header_of(self, hour: bytes, zone: bytes) -> re.Pattern[bytes]:
        """A newline and the header of the record behind it."""
        if self._timestamps:
            # What lies outside the groups is dropped; the last space stays.
            return re.compile(rb"(\n%b%b)(%b) %b F(?= )" % (hour, _REST, zone, self._stream))
        return re.compile(rb"\n%b%b%b %b F " % (hour, _REST, zone, self._stream))

    def _hour_kept(self, hour: bytes, zone: bytes) -> bool | None:
        """Whether ``since`` keeps the records of this hour; None if some of them, or not known."""
        begin = parse_stamp(hour + b":00:00" + zone)
        if self._since_ns is None:
            return True
        if begin is None:
            return None
        if begin.ns >= self._since_ns:
            return True
        return False if begin.ns + 3600 * SECOND <= self._since_ns else None


def _drop_headers(
    header: re.Pattern[bytes], first: re.Match[bytes], block: bytes, records: int
) -> bytes | None:
    output, others = header.subn(b"\n", block[first.end() :])
    return output if others == records - 1 else None


def _keep_times(
    header: re.Pattern[bytes], first: re.Match[bytes], block: bytes, records: int
) -> bytes | None:
    # Content, time, zone, content, time, zone, …
    parts = header.split(block[first.end() - 1 :])
    if len(parts) != 3 * records - 2:
        return None
    width = _STAMP_WIDTH + len(b"\n")
    parts[1::3] = [time.ljust(width, b"0") for time in parts[1::3]]
    time = (first[1] + first[2]).ljust(_STAMP_WIDTH, b"0")
    return b"".join((time, first[3], *parts))
