"""What the log reader's tests share."""

import asyncio
import gzip
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from edgestream.logs.options import LogOptions
from edgestream.logs.reader import LogReader
from edgestream.logs.watch import LogWatcher

DEADLINE = 20.0
"""Seconds within which anything that is waited for happens, on a slow machine too."""

BASE_SECONDS = 1_714_557_600  # 2024-05-01T10:00:00Z


class Container:
    """A container that runs until it is told to stop."""

    def __init__(self, *, running: bool = True) -> None:
        self.running = running
        self.questions: list[float] = []

    async def is_running(self) -> bool:
        self.questions.append(time.monotonic())
        return self.running


def record(number: int, text: str = "", *, stream: str = "stdout", tag: str = "F") -> bytes:
    """A record whose time is ``number`` milliseconds after the base time."""
    seconds, millis = divmod(number, 1000)
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(BASE_SECONDS + seconds))
    return f"{clock}.{millis:03d}Z {stream} {tag} {text or f'line {number}'}\n".encode()


def lines(first: int, last: int) -> bytes:
    """The output of the records first to last, both included."""
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


def records(first: int, last: int) -> bytes:
    """Those records themselves."""
    return b"".join(record(number) for number in range(first, last + 1))


def write(path: Path, data: bytes) -> None:
    """Make the file, with this content."""
    path.write_bytes(data)


def append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)


def truncate(path: Path) -> None:
    """Empty the file, as ``: > file`` does."""
    os.truncate(path, 0)


def rotate(path: Path, stamp: str) -> Path:
    """Rename the file as a rotation does; the new one is yet to be made."""
    rotated = path.with_name(f"{path.name}.{stamp}")
    path.rename(rotated)
    return rotated


def compress(path: Path) -> Path:
    """Gzip the file in the kubelet's way."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(gzip.compress(path.read_bytes()))
    packed = path.with_name(path.name + ".gz")
    temporary.rename(packed)
    path.unlink()
    return packed


async def read_log(path: Path, container: Container | None = None, **options: Any) -> bytes:
    """All of the output; a follower's container has ended already unless one is given."""
    watcher = LogWatcher()
    try:
        async with asyncio.timeout(DEADLINE):
            reader = await LogReader.open(
                str(path),
                LogOptions(**options),
                state=container or Container(running=False),
                watcher=watcher,
            )
            return b"".join([chunk async for chunk in reader.chunks()])
    finally:
        await watcher.close()


async def drain(reader: LogReader, output: bytearray) -> None:
    """Read to the end, or to the error."""
    async with asyncio.timeout(DEADLINE):
        async for chunk in reader.chunks():
            output += chunk


class Followed:
    """A log that is being followed: what came out so far, and a way to wait for more."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.chunks = chunks
        self.output = b""

    async def until(self, expected: bytes) -> None:
        """Read on until the output is as long as expected, and compare."""
        async with asyncio.timeout(DEADLINE):
            while len(self.output) < len(expected):
                self.output += await anext(self.chunks)
        assert self.output == expected

    async def until_end(self, expected: bytes) -> None:
        """Read on to the end of the log, and compare."""
        async with asyncio.timeout(DEADLINE):
            async for chunk in self.chunks:
                self.output += chunk
        assert self.output == expected


Follow = Callable[..., Awaitable[Followed]]


def open_files() -> set[str]:
    """What this process has open, links resolved, without the directory that is listed for it."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{entry}:{os.readlink(f'/proc/self/fd/{entry}')}")
        except OSError:
            continue
    return found
