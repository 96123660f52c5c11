"""Blocks of records, whole and cut, to output."""

from typing import Any

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.logs.bulk import BulkFormatter
from edgestream.logs.formatter import LogFormatter
from edgestream.logs.options import LogOptions
from edgestream.logs.record import STREAMS
from edgestream.logs.timestamp import parse_stamp

T = b"2024-05-01T10:00:00.1Z"
SHOWN = b"2024-05-01T10:00:00.100000000Z"


def formatter(**options: Any) -> LogFormatter:
    return LogFormatter(LogOptions(**options))


def bulk(**options: Any) -> BulkFormatter:
    return BulkFormatter(**{"timestamps": False, "stream": None, "since_ns": None, **options})


@pytest.mark.parametrize("repeats", [1, 2, 3])
@pytest.mark.parametrize("timestamps", [False, True])
def test_bulk_takes_full_records(timestamps: bool, repeats: int) -> None:
    times = [(b"2024-05-01T10:00:%02d" % n, b"%d" % (n + 1)) for n in range(60)]
    block = b"".join(
        b"%b.%b+08:00 %b F text %d\n" % (clock, fraction, STREAMS[n % 2], n)
        for n, (clock, fraction) in enumerate(times)
    )
    shown = b"".join(
        (b"%b.%b+08:00 " % (clock, fraction.ljust(9, b"0"))) * timestamps + b"text %d\n" % n
        for n, (clock, fraction) in enumerate(times)
    )
    formats = bulk(timestamps=timestamps)
    for _ in range(repeats):  # the second time the hour is known
        assert formats.format(block) == shown


@pytest.mark.parametrize(
    "odd",
    [
        T + b" stdout P part",
        T + b" stdout F:x tags",
        T + b" stdin F x",
        T + b" stdout F",
        T.replace(b".1", b"") + b" stdout F no fraction",
        T.replace(b".1", b",1") + b" stdout F comma",
        T.replace(b"Z", b"+01:00") + b" stdout F another zone",
        T.replace(b".1", b".1234567890") + b" stdout F ten digits",
        T.replace(b"05-01", b"04-31") + b" stdout F no such day",
        T.replace(b"2024-05-01", b"2023-02-29") + b" stdout F no leap year",
        T.replace(b"2024-05-01", b"1900-02-29") + b" stdout F no leap year",
        T.replace(b"10:00", b"24:00") + b" stdout F no such hour",
        T.replace(b"10:00", b"1:00") + b" stdout F short hour",
        b"x " + T + b" stdout F x",
        b"",
    ],
)
@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_bulk_leaves_all_others(odd: bytes, timestamps: bool, position: int) -> None:
    block = [T + b" stdout F a\n"] * 2
    block.insert(position, odd + b"\n")
    formats = bulk(timestamps=timestamps)
    for _ in range(3):
        assert formats.format(b"".join(block)) is None


@pytest.mark.parametrize(
    "date", [b"2024-02-29", b"2000-02-29", b"2023-02-28", b"2024-12-31", b"2024-11-30"]
)
def test_bulk_knows_the_calendar(date: bytes) -> None:
    block = date + b"T23:59:59.999Z stdout F x\n"
    assert bulk().format(block * 2) == b"x\nx\n"
    assert parse_stamp(block.split(b" ")[0]) is not None


def test_bulk_content_that_looks_like_a_record() -> None:
    block = (T + b" stdout F " + T + b" stdout F x\n") * 2
    assert bulk().format(block) == (T + b" stdout F x\n") * 2


def test_bulk_filters() -> None:
    block = b"".join(
        b"2024-05-01T10:00:0%d.1+02:00 %b F %d\n" % (n, STREAMS[n % 2], n) for n in range(6)
    )
    limit = parse_stamp(b"2024-05-01T08:00:03.1Z")
    assert limit is not None
    assert bulk(since_ns=limit.ns).format(block) == b"3\n4\n5\n"
    assert bulk(since_ns=limit.ns + 1).format(block) == b"4\n5\n"
    assert bulk(since_ns=-(10**30)).format(block) == b"0\n1\n2\n3\n4\n5\n"
    assert bulk(since_ns=10**30).format(block) == b""
    assert bulk(stream=b"stderr").format(block) == b"1\n3\n5\n"
    shown = b"2024-05-01T10:00:04.100000000+02:00 4\n"
    formats = bulk(stream=b"stdout", since_ns=limit.ns, timestamps=True)
    assert formats.format(block) == shown


def test_bulk_zero_offset_is_shown_as_z() -> None:
    block = (T.replace(b"Z", b"+00:00") + b" stdout F x\n") * 2
    assert bulk(timestamps=True).format(block) == (SHOWN + b" x\n") * 2


def test_bulk_across_hours() -> None:
    def block(hours: list[int]) -> bytes:
        return b"".join(b"2024-05-01T%02d:00:00.5Z stdout F %d\n" % (h, h) for h in hours)

    formats = bulk()
    for hours in ([1, 1], [1, 2], [2, 3, 2], [4, 4], *[[5, 5]] * 20, [5, 6], [5, 5], [6, 5, 6]):
        output = formats.format(block(hours))
        # An hour that lasted for long has an expression of its own, which refuses all others.
        assert output in (b"".join(b"%d\n" % hour for hour in hours), None)
        assert output is not None or hours == [5, 6, 5]


def test_odd_records_among_good_ones() -> None:
    good = T + b" stdout F a\n"
    odd = [T + b" stdout P x\n", b"\n", b"garbage\n", T.replace(b"Z", b"-01:00") + b" stdout F b\n"]
    block = odd[0] + good * 2 + odd[1] + odd[2] + good + odd[3] + good
    formats = formatter()
    assert formats.feed(block) == b"xa\na\na\nb\na\n"
    assert formats.feed(block) == b"xa\na\na\nb\na\n"
    found = bulk()
    found.format(good)
    spans = [block[begin:end] for begin, end in found.odd_records(block)]
    assert spans == [odd[0], odd[1] + odd[2], odd[3]]


def test_record_behind_a_partial_one_has_no_prefix() -> None:
    formats = formatter(timestamps=True)
    assert formats.feed(T + b" stdout P a\n") == SHOWN + b" a"
    assert formats.feed((T + b" stdout F b\n") * 2) == b"b\n" + SHOWN + b" b\n"


@pytest.mark.parametrize("tag", [b"F", b"P"])
def test_long_record_in_parts(tag: bytes) -> None:
    formats = formatter(timestamps=True)
    output = formats.feed(T + b" stdout F a\n" + T + b" stdout " + tag + b" long")
    output += formats.feed(b" and")
    output += formats.feed(b" longer\n" + T + b" stdout F b\n")
    end = b"\n" + SHOWN + b" b\n" if tag == b"F" else b"b\n"
    assert output == SHOWN + b" a\n" + SHOWN + b" long and longer" + end


def test_long_record_that_is_not_wanted() -> None:
    formats = formatter(stream="Stderr", timestamps=True)
    output = formats.feed(T + b" stdout F long") + formats.feed(b"er\n" + T + b" stderr F b\n")
    assert output == SHOWN + b" b\n"


def test_long_record_that_is_none() -> None:
    formats = formatter(timestamps=True)
    output = formats.feed(T + b" stdout P a\nlong garbage")
    output += formats.feed(b" and more\n" + T + b" stdout F b\n")
    assert output == SHOWN + b" ab\n"


def test_long_record_is_the_last_that_is_asked_for() -> None:
    formats = formatter(tail_lines=1)
    output = formats.feed(T + b" stdout F long")
    assert not formats.done
    output += formats.feed(b"er\n" + T + b" stdout F next\n")
    assert output == b"longer\n"
    assert formats.done


def test_failure_leaves_what_came_before() -> None:
    formats = formatter()
    good = b'{"log":"a\\n","stream":"stdout"}\n'
    assert formats.feed(good + b'{"log":"b\\n"}\n' + good) == b"a\n"
    assert formats.done
    assert formats.failure is not None
    assert formats.failure.body == 'unexpected stream type ""'


def test_no_failure_behind_the_byte_limit() -> None:
    formats = formatter(limit_bytes=2)
    assert formats.feed(b'{"log":"a\\n","stream":"stdout"}\n{}\n') == b"a\n"
    assert formats.failure is None


def test_first_record_decides() -> None:
    formats = formatter()
    with pytest.raises(KubeletAnswer, match="unsupported log format"):
        formats.feed(b"garbage\n")
    formats = formatter()
    assert formats.feed(T + b' stdout F a\n{"log":"x\\n","stream":"stdout"}\n') == b"a\n"
