"""Random logs, read by the log reader and by an independent one."""

import asyncio
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.answers import KubeletAnswer
from edgestream.logs import files, seek
from edgestream.logs.options import LogOptions
from tests.unit.edgestream.logs.reference import Refused, kubectl_logs, parse
from tests.unit.edgestream.logs.support import (
    BASE_SECONDS,
    compress,
    read_log,
    record,
    write,
)

ZONES = st.sampled_from([b"Z"] * 6 + [b"+08:00", b"-03:30", b"+00:00"])
TAGS = st.sampled_from([b"F"] * 8 + [b"P", b"P", b"F:x", b"P:y:z", b"", b"other"])
CONTENTS = st.one_of(
    st.sampled_from([b"", b" ", b"some text", b"2024-05-01T10:00:00Z stdout F nested"]),
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"\r")),
)
GARBAGE = st.sampled_from(
    [
        b"",
        b"garbage",
        b"2024-05-01T10:00:00Z stdout F",
        b"2024-02-30T10:00:00.1Z stdout F no such day",
        b"2024-05-01T10:00:00.1Z stdin F x",
        b"x 2024-05-01T10:00:00.1Z stdout F x",
    ]
)


@st.composite
def timed_records(draw: st.DrawFn, *, plain: bool, day: int = 0) -> list[bytes]:
    """Records of less than a day in order of time, but for some that come up to a second late."""
    zone = draw(ZONES)
    ns = (BASE_SECONDS + day * 86_400) * 10**9
    found = []
    for _ in range(draw(st.integers(0, 25))):
        ns += draw(st.sampled_from([0, 1, 10**3, 10**6, 10**9, 20 * 60 * 10**9]))
        late = draw(st.sampled_from([0, 0, 0, 5 * 10**8, 10**9]))
        found.append(
            b"%b %b %b %b\n"
            % (
                clock(ns - late, zone if plain else draw(ZONES)),
                draw(st.sampled_from([b"stdout"] * 5 + [b"stderr"])),
                b"F" if plain else draw(TAGS),
                draw(CONTENTS),
            )
        )
        if not plain and draw(st.integers(0, 9)) == 0:
            found.append(draw(GARBAGE) + b"\n")
    return found


def clock(ns: int, zone: bytes) -> bytes:
    """The time in that zone, with its trailing zeros trimmed, as the runtime writes it."""
    offset = 0
    if zone != b"Z":
        offset = (int(zone[1:3]) * 60 + int(zone[4:6])) * (-60 if zone[:1] == b"-" else 60)
    seconds, nanos = divmod(ns, 10**9)
    whole = record((seconds + offset - BASE_SECONDS) * 1000).split(b".")[0]
    fraction = b"%09d" % nanos
    return whole + (b"." + fraction).rstrip(b"0").rstrip(b".") + zone


def draw_records(data: st.DataObject, day: int) -> list[bytes]:
    found: list[bytes] = data.draw(
        st.booleans().flatmap(lambda plain: timed_records(plain=plain, day=day))
    )
    return found


@st.composite
def options_for(draw: st.DrawFn, lines: list[bytes]) -> LogOptions:
    times = [parsed.ns for line in lines if (parsed := parse(line)) is not None]
    since = st.sampled_from(times or [0]).flatmap(
        lambda ns: st.sampled_from([ns - 1, ns, ns + 1, ns - 10**9])
    )
    tail = draw(st.one_of(st.none(), st.integers(0, len(lines) + 2)))
    return LogOptions(
        follow=draw(st.booleans()),
        timestamps=draw(st.booleans()),
        since_ns=draw(st.one_of(st.none(), since)),
        tail_lines=tail,
        limit_bytes=draw(st.one_of(st.none(), st.integers(1, 500))),
        stream="All" if tail is not None else draw(st.sampled_from(["All", "Stdout", "Stderr"])),
    )


def small_blocks(size: int) -> ExitStack:
    """Make the reader work in blocks of that size, so that short logs have many."""
    stack = ExitStack()
    stack.enter_context(mock.patch.object(files, "BLOCK", size))
    stack.enter_context(mock.patch.object(seek, "BLOCK", size))
    return stack


@pytest.mark.parametrize("plain", [True, False])
def test_one_file(plain: bool) -> None:
    with (
        asyncio.Runner() as runner,
        tempfile.TemporaryDirectory() as directory,
        mock.patch("edgestream.logs.follow.END_PAUSE", 0.0),
    ):
        path = Path(directory) / "0.log"

        @settings(max_examples=80, deadline=None)
        @given(data=st.data(), size=st.sampled_from([50, 300, 2000, 100_000]))
        def check(data: st.DataObject, size: int) -> None:
            lines = data.draw(timed_records(plain=plain))
            open_ended = data.draw(st.booleans())
            if open_ended and lines:
                lines[-1] = lines[-1][:-1]
            options = data.draw(options_for(lines))
            path.write_bytes(b"".join(lines))
            with small_blocks(size):
                try:
                    expected = kubectl_logs([b"".join(lines)], options)
                except Refused:
                    with pytest.raises(KubeletAnswer, match="unsupported log format"):
                        runner.run(read_log(path, **asdict(options)))
                else:
                    assert runner.run(read_log(path, **asdict(options))) == expected

        check()


def test_rotated_files() -> None:
    with (
        asyncio.Runner() as runner,
        mock.patch("edgestream.logs.follow.END_PAUSE", 0.0),
    ):

        @settings(max_examples=50, deadline=None)
        @given(data=st.data(), size=st.sampled_from([50, 300, 2000]))
        def check(data: st.DataObject, size: int) -> None:
            parts = [draw_records(data, day) for day in range(data.draw(st.integers(1, 4)))]
            with tempfile.TemporaryDirectory() as directory, small_blocks(size):
                log = Path(directory) / "7.log"
                texts = write_rotated(log, parts)
                options = data.draw(options_for([line for part in parts for line in part]))
                try:
                    expected = kubectl_logs(texts, options)
                except Refused:
                    return
                assert runner.run(read_log(log, **asdict(options))) == expected

        check()


def write_rotated(log: Path, parts: list[list[bytes]]) -> list[bytes]:
    """Write the parts as the files of a log that was rotated behind each of them but the last."""
    texts = [b"".join(lines) for lines in parts]
    write(log, texts[-1])
    for age, text in enumerate(reversed(texts[:-1])):
        rotated = log.with_name(f"{log.name}.20240501-1000{59 - age}")
        rotated.write_bytes(text)
        if age:
            compress(rotated)
    return texts
