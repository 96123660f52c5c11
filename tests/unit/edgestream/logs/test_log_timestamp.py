"""RFC 3339 times as Go reads and prints them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.logs.timestamp import ZERO_TIME_NS, Stamp, parse_stamp


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00.000000000Z"),
        ("2024-05-01T10:00:00.1Z", "2024-05-01T10:00:00.100000000Z"),
        ("2024-05-01T10:00:00,5Z", "2024-05-01T10:00:00.500000000Z"),
        ("2024-05-01T9:00:00Z", "2024-05-01T09:00:00.000000000Z"),
        ("2024-05-01T10:00:00.1234567899Z", "2024-05-01T10:00:00.123456789Z"),
        ("2024-05-01T10:00:00+00:00", "2024-05-01T10:00:00.000000000Z"),
        ("2024-05-01T10:00:00-00:00", "2024-05-01T10:00:00.000000000Z"),
        ("2024-05-01T10:00:00-03:30", "2024-05-01T10:00:00.000000000-03:30"),
        ("2024-05-01T10:00:00+00:60", "2024-05-01T10:00:00.000000000+01:00"),
        ("2024-05-01T10:00:00+24:00", "2024-05-01T10:00:00.000000000+24:00"),
        ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59.000000000Z"),
        ("2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000000Z"),
    ],
)
def test_printed(text: str, printed: str) -> None:
    stamp = parse_stamp(text.encode())
    assert stamp is not None
    assert stamp.text == printed.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-05-01 10:00:00Z",
        "2024-05-01t10:00:00Z",
        "2024-05-01T10:00:00z",
        "2024-05-01T10:00:00",
        "2024-05-01T10:00:00.Z",
        "2024-05-01T10:00:60Z",
        "2024-05-01T10:60:00Z",
        "2024-05-01T24:00:00Z",
        "2024-5-01T10:00:00Z",
        "2024-00-01T10:00:00Z",
        "2024-13-01T10:00:00Z",
        "2024-05-00T10:00:00Z",
        "2024-04-31T10:00:00Z",
        "2023-02-29T10:00:00Z",
        "1900-02-29T10:00:00Z",
        "2024-05-01T10:00:00+25:00",
        "2024-05-01T10:00:00+00:61",
        "2024-05-01T10:00:00+0800",
        "2024-05-01T10:00:00Z\n",
    ],
)
def test_refused(text: str) -> None:
    assert parse_stamp(text.encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T9:00:00Z",
        "2024-05-01T10:00:00,5Z",
        "2024-05-01T10:00:00+24:00",
        "2024-05-01T10:00:00+00:60",
    ],
)
def test_refused_when_strict(text: str) -> None:
    assert parse_stamp(text.encode(), strict=True) is None
    assert parse_stamp(b"2024-05-01T10:00:00.5+08:00", strict=True) == parse_stamp(
        b"2024-05-01T10:00:00.5+08:00"
    )


def test_zero_time() -> None:
    assert parse_stamp(b"0001-01-01T00:00:00Z") == Stamp(
        ZERO_TIME_NS, b"0001-01-01T00:00:00.000000000Z"
    )
    year_zero = parse_stamp(b"0000-12-31T23:59:59Z")
    assert year_zero is not None
    assert year_zero.ns == ZERO_TIME_NS - 10**9


@given(
    moment=st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),
    offset=st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_agrees_with_datetime(moment: datetime, offset: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    stamp = parse_stamp(zoned.isoformat(timespec="microseconds").encode())
    assert stamp is not None
    since_epoch = zoned - datetime(1970, 1, 1, tzinfo=UTC)
    assert stamp.ns == since_epoch // timedelta(microseconds=1) * 1000
