"""What a reader opens, refuses and releases."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from unittest import mock

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.logs import files
from edgestream.logs.options import LogOptions
from edgestream.logs.reader import CHUNK_MAX, LogReader
from edgestream.logs.watch import LogWatcher
from tests.unit.edgestream.logs.support import (
    DEADLINE,
    Container,
    append,
    drain,
    lines,
    open_files,
    read_log,
    record,
    records,
    write,
)


async def refusal(path: Path | str) -> str:
    with pytest.raises(KubeletAnswer) as caught:
        await read_log(Path(path))
    assert caught.value.status == 400
    assert caught.value.headers == ()
    return caught.value.body


async def test_missing_file(log: Path) -> None:
    assert await refusal(log) == (
        f'failed to try resolving symlinks in path "{log}": lstat {log}: no such file or directory'
    )


async def test_missing_directory(log: Path) -> None:
    path = log.parent / "gone" / "0.log"
    assert await refusal(path) == (
        f'failed to try resolving symlinks in path "{path}": '
        f"lstat {path.parent}: no such file or directory"
    )


async def test_no_path(watcher: LogWatcher) -> None:
    with pytest.raises(KubeletAnswer, match='failed to open log file "": open : no such file'):
        await LogReader.open("", LogOptions(), state=Container(), watcher=watcher)


async def test_only_regular_files(log: Path) -> None:
    os.mkfifo(log)
    assert await refusal(log) == (
        f'failed to open log file "{log}": open {log}: not a regular file'
    )


async def test_symbolic_link(log: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.log"
    target.write_bytes(records(1, 2))
    os.symlink(target, log)
    assert await read_log(log) == lines(1, 2)


async def test_chunks_are_bounded(log: Path, watcher: LogWatcher) -> None:
    content = "x" * 1000
    write(log, record(1, content) * 2000 + record(2, "y" * CHUNK_MAX * 3))
    reader = await LogReader.open(str(log), LogOptions(), state=Container(), watcher=watcher)
    chunks = [chunk async for chunk in reader.chunks()]
    assert all(0 < len(chunk) <= CHUNK_MAX for chunk in chunks)
    expected = (content.encode() + b"\n") * 2000 + b"y" * CHUNK_MAX * 3 + b"\n"
    assert b"".join(chunks) == expected


@pytest.mark.parametrize("timestamps", [False, True])
async def test_record_longer_than_memory_allows(log: Path, timestamps: bool) -> None:
    write(log, record(1) + record(2, "y" * 5_000_000) + record(3))
    prefixes = [b"2024-05-01T10:00:00.%03d000000Z " % number for number in (1, 2, 3)]
    shown = [b"line 1\n", b"y" * 5_000_000 + b"\n", b"line 3\n"]
    expected = b"".join(
        prefix * timestamps + text for prefix, text in zip(prefixes, shown, strict=True)
    )
    with mock.patch.object(files, "RECORD_MAX", 300_000):
        assert await read_log(log, timestamps=timestamps) == expected


@pytest.mark.parametrize("tag", ["F", "P"])
async def test_long_record_without_an_end(log: Path, tag: str) -> None:
    write(log, record(1, "y" * 1_000_000, tag=tag)[:-1])
    with mock.patch.object(files, "RECORD_MAX", 300_000):
        assert await read_log(log) == b"y" * 1_000_000


async def test_long_record_of_docker_is_skipped(log: Path) -> None:
    short = b'{"log":"a\\n","stream":"stdout"}\n'
    write(log, short + b'{"log":"%b","stream":"stdout"}\n' % (b"y" * 1_000_000) + short)
    with mock.patch.object(files, "RECORD_MAX", 300_000):
        assert await read_log(log) == b"a\na\n"


async def test_record_that_is_completed_while_it_is_shown(log: Path, watcher: LogWatcher) -> None:
    write(log, record(1)[:-3])
    reader = await LogReader.open(str(log), LogOptions(), state=Container(), watcher=watcher)
    append(log, record(1)[-3:] + record(2))
    output = bytearray()
    await drain(reader, output)
    assert output == b"line"


async def test_reads_what_is_not_in_the_page_cache(log: Path) -> None:
    write(log, records(1, 5000))
    with mock.patch.object(os, "preadv", side_effect=BlockingIOError):
        assert await read_log(log) == lines(1, 5000)


async def test_read_error_is_not_a_short_log(log: Path, watcher: LogWatcher) -> None:
    write(log, records(1, 10_000))
    reader = await LogReader.open(str(log), LogOptions(), state=Container(), watcher=watcher)
    output = bytearray()
    with (
        mock.patch.object(os, "preadv", side_effect=OSError(5, "")),
        mock.patch.object(os, "pread", side_effect=OSError(5, "")),
        pytest.raises(KubeletAnswer, match=r"failed to read log file .*: input/output error"),
    ):
        await drain(reader, output)
    assert output
    assert lines(1, 10_000).startswith(output)


async def test_first_record_of_the_wrong_stream(log: Path) -> None:
    write(log, b'{"log":"a\\n","time":"2024-05-01T10:00:00Z"}\n')
    assert await refusal(log) == 'unexpected stream type ""'


async def test_later_failure_comes_behind_the_output(log: Path, watcher: LogWatcher) -> None:
    write(log, b'{"log":"a\\n","stream":"stdout"}\n{"log":"b\\n"}\n')
    reader = await LogReader.open(str(log), LogOptions(), state=Container(), watcher=watcher)
    output = bytearray()
    with pytest.raises(KubeletAnswer, match="unexpected stream type"):
        await drain(reader, output)
    assert output == b"a\n"


async def test_nothing_stays_open(log: Path, watcher: LogWatcher) -> None:
    write(log, records(1, 10))
    log.with_name("0.log.20240501-100000").write_bytes(b"")
    before = open_files()
    await read_log(log)
    await read_log(log, tail_lines=100)
    await read_log(log, follow=True)
    with pytest.raises(KubeletAnswer):
        await read_log(log.parent)
    reader = await LogReader.open(
        str(log), LogOptions(follow=True, tail_lines=20), state=Container(), watcher=watcher
    )
    await reader.close()
    await reader.close()
    async with aclosing(
        (
            await LogReader.open(
                str(log), LogOptions(follow=True), state=Container(), watcher=watcher
            )
        ).chunks()
    ) as chunks:
        assert await anext(chunks) == lines(1, 10)
    await watcher.close()
    assert open_files() == before


async def test_cancelled_follower_releases_all(log: Path, watcher: LogWatcher) -> None:
    write(log, records(1, 10))
    before = open_files()
    seen = asyncio.Event()

    async def read() -> None:
        reader = await LogReader.open(
            str(log), LogOptions(follow=True), state=Container(), watcher=watcher
        )
        async with aclosing(reader.chunks()) as chunks:
            async for _ in chunks:
                seen.set()

    task = asyncio.create_task(read())
    async with asyncio.timeout(DEADLINE):
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await watcher.close()
    assert open_files() == before


async def test_searches_read_little(log: Path) -> None:
    write(log, text := records(1, 200_000))
    size = len(text)
    counted = 0
    pread, preadv = os.pread, os.preadv

    def counting_pread(fd: int, count: int, offset: int) -> bytes:
        nonlocal counted
        data = pread(fd, count, offset)
        counted += len(data)
        return data

    def counting_preadv(fd: int, buffers: list[bytearray], offset: int, flags: int) -> int:
        nonlocal counted
        count = preadv(fd, buffers, offset, flags)
        counted += count
        return count

    with (
        mock.patch.object(os, "pread", counting_pread),
        mock.patch.object(os, "preadv", counting_preadv),
    ):
        assert await read_log(log, tail_lines=100) == lines(199_901, 200_000)
        assert counted < size // 20
        counted = 0
        since = (1_714_557_600 + 195) * 10**9
        assert await read_log(log, since_ns=since) == lines(195_000, 200_000)
        assert counted < size // 5


async def test_growing_log_without_follow(log: Path, watcher: LogWatcher) -> None:
    write(log, records(1, 3))
    reader = await LogReader.open(
        str(log), LogOptions(tail_lines=2), state=Container(), watcher=watcher
    )
    append(log, records(4, 9))
    assert b"".join([chunk async for chunk in reader.chunks()]) == lines(2, 3)
