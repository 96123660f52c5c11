"""Older files of a log."""

import gzip
import os
from pathlib import Path
from unittest import mock

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.logs.files import GzipLogFile, LogFile
from edgestream.logs.rotated import Rotations, rotated_files
from tests.unit.edgestream.logs.support import (
    BASE_SECONDS,
    append,
    compress,
    lines,
    read_log,
    record,
    records,
    rotate,
    write,
)


@pytest.fixture
def rotated_log(log: Path) -> Path:
    """Records 1–10 gzipped, 11–20 rotated, 21–22 current."""
    write(log, records(1, 10))
    compress(rotate(log, "20240501-100000"))
    write(log, records(11, 20))
    rotate(log, "20240501-101000")
    write(log, records(21, 22))
    return log


def names(log: Path) -> list[str]:
    return [os.path.basename(file.path) for file in rotated_files(str(log))]


def test_listing(log: Path) -> None:
    for suffix in (
        ".20240501-101000",
        ".20240501-100000.gz",
        ".20240501-101000.gz",
        ".20240501-101000.gz.tmp",
        ".20240501-102000.tmp",
        ".1",
        ".gz",
        "",
    ):
        log.with_name(f"0.log{suffix}").touch()
    log.with_name("10.log.20240501-100000").touch()
    assert names(log) == ["0.log.20240501-100000.gz", "0.log.20240501-101000"]
    assert rotated_files("/no/such/directory/0.log") == []


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("tail", [0, 1, 2, 3, 11, 12, 13, 21, 22, 100])
async def test_tail(rotated_log: Path, tail: int, follow: bool) -> None:
    output = await read_log(rotated_log, tail_lines=tail, follow=follow)
    assert output == lines(max(1, 23 - tail), 22)


@pytest.mark.parametrize("first", [1, 2, 11, 12, 21, 22])
async def test_since(rotated_log: Path, first: int) -> None:
    since = BASE_SECONDS * 10**9 + first * 10**6
    assert await read_log(rotated_log, since_ns=since) == lines(first, 22)


async def test_since_does_not_open_what_is_too_old(rotated_log: Path) -> None:
    write(rotated_log, record(5000) + record(9000))
    with mock.patch.object(GzipLogFile, "open", side_effect=AssertionError):
        output = await read_log(rotated_log, since_ns=(BASE_SECONDS + 4) * 10**9)
    assert output == b"line 5000\nline 9000\n"


async def test_without_tail_or_since_only_the_current_file(rotated_log: Path) -> None:
    assert await read_log(rotated_log) == lines(21, 22)
    assert await read_log(rotated_log, limit_bytes=1000) == lines(21, 22)


async def test_just_rotated(log: Path) -> None:
    write(log, records(1, 10))
    rotate(log, "20240501-100000")
    write(log, b"")
    assert await read_log(log) == b""
    assert await read_log(log, tail_lines=3) == lines(8, 10)
    assert await read_log(log, since_ns=BASE_SECONDS * 10**9) == lines(1, 10)


async def test_rotated_file_without_last_newline(log: Path) -> None:
    write(log, records(1, 3) + record(4)[:-1])
    rotate(log, "20240501-100000")
    write(log, records(5, 6))
    assert await read_log(log, since_ns=1) == lines(1, 6)


async def test_damaged_archive(log: Path) -> None:
    packed = log.with_name("0.log.20240501-100000.gz")
    packed.write_bytes(gzip.compress(records(1, 1000))[:-100])
    write(log, records(1001, 1002))
    with pytest.raises(KubeletAnswer, match="failed to read log file"):
        await read_log(log, tail_lines=500)
    assert await read_log(log, tail_lines=2) == lines(1001, 1002)


async def test_compressed_between_listing_and_opening(rotated_log: Path) -> None:
    listed = rotated_files(str(rotated_log))
    compress(rotated_log.with_name("0.log.20240501-101000"))
    file = listed[1].open()
    assert isinstance(file, GzipLogFile)
    assert await file.records() == records(11, 20)
    file.close()
    os.unlink(listed[0].path)
    assert listed[0].open() is None


def test_rotated_between_opening_and_listing(log: Path) -> None:
    write(log, records(1, 2))
    rotate(log, "20240501-100000")
    write(log, records(3, 4))
    opened = LogFile.open

    def open_and_rotate(path: str) -> LogFile:
        file = opened(path)
        rotate(log, "20240501-101000")
        write(log, records(5, 6))
        return file

    rotations = Rotations(str(log))
    with mock.patch.object(LogFile, "open", open_and_rotate):
        current, older = rotations.open_current()
    assert [file.stamp for file in older] == ["20240501-100000"]
    assert rotations.rotated_away(current)
    successors = rotations.successors(current)
    assert [os.path.basename(file.path) for file in successors] == ["0.log"]
    for file in (current, *successors):
        file.close()


@pytest.mark.parametrize("packed", [False, True])
async def test_two_rotations_at_once(log: Path, packed: bool) -> None:
    write(log, records(1, 2))
    rotations = Rotations(str(log))
    current, _ = rotations.open_current()
    first = rotate(log, "20240501-100000")
    write(log, records(3, 4))
    rotate(log, "20240501-101000")
    assert not rotations.rotated_away(current)  # there is no new file yet
    assert rotations.successors(current) == []
    write(log, records(5, 6))
    if packed:
        compress(first)
    successors = rotations.successors(current)
    assert [await file.records() for file in successors] == [records(3, 4), records(5, 6)]
    for file in (current, *successors):
        file.close()


async def test_successors_of_a_file_that_was_removed(log: Path) -> None:
    write(log, records(1, 2))
    rotations = Rotations(str(log))
    current, _ = rotations.open_current()
    os.unlink(log)
    write(log, records(3, 4))
    compress(rotate(log, "20240501-100000"))
    write(log, records(5, 6))
    append(log, records(7, 7))
    successors = rotations.successors(current)
    assert [await file.records() for file in successors] == [records(3, 4), records(5, 7)]
    for file in (current, *successors):
        file.close()
