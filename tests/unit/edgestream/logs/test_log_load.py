"""Rotation under load: a writer in a thread, a follower that must miss nothing."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.edgestream.logs.support import (
    Container,
    Follow,
    append,
    compress,
    lines,
    record,
    records,
    rotate,
    write,
)

ROTATIONS = 30
ROUNDS = 20
FOLLOWERS = 50
BURST = 50


class Writer(threading.Thread):
    """Writes numbered records as a runtime does, and rotates as a kubelet does.

    The first records behind a rotation are still written to the old file.
    """

    def __init__(self, log: Path, container: Container) -> None:
        super().__init__(daemon=True)
        self.log = log
        self.container = container
        self.last = 0
        self.stop = threading.Event()

    def burst(self) -> bytes:
        first, self.last = self.last + 1, self.last + BURST
        return b"".join(record(number) for number in range(first, self.last + 1))

    def run(self) -> None:
        packable: Path | None = None
        for number in range(ROTATIONS):
            for _ in range(ROUNDS):
                append(self.log, self.burst())
                if self.stop.wait(0.002):
                    return
            if packable is not None:
                compress(packable)
            packable = rotate(self.log, f"20240501-1000{number:02d}")
            append(packable, self.burst())
            with self.log.open("ab", buffering=0) as new:
                append(packable, self.burst())
                new.write(self.burst())
        self.container.running = False


@pytest.fixture
def writer(log: Path, container: Container) -> Iterator[Writer]:
    write(log, b"")
    writer = Writer(log, container)
    yield writer
    writer.stop.set()
    writer.join()


async def test_nothing_is_lost_and_nothing_comes_twice(writer: Writer, follow: Follow) -> None:
    followed = await follow()
    writer.start()
    async for chunk in followed.chunks:
        followed.output += chunk
    assert not writer.is_alive() or writer.container.running is False
    numbers = [int(number) for number in re.findall(rb"line (\d+)\n", followed.output)]
    assert sorted(numbers) == list(range(1, writer.last + 1))
    assert b"".join(b"line %d\n" % number for number in numbers) == followed.output


async def test_followers_that_nobody_reads_hold_up_no_other(log: Path, follow: Follow) -> None:
    write(log, records(1, 1))
    followers = [await follow() for _ in range(FOLLOWERS)]
    for follower in followers:
        await follower.until(lines(1, 1))
    append(log, records(2, 50_000))
    for follower in followers[::2]:
        await anext(follower.chunks)  # and no more, ever
    for follower in followers[1::2]:
        await follower.until(lines(1, 50_000))
    append(log, records(50_001, 50_100))
    for follower in followers[1::2]:
        await follower.until(lines(1, 50_100))
