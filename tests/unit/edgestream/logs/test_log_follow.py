"""Following a log: growth, rotation, truncation, the end."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from edgestream.logs.options import LogOptions
from edgestream.logs.reader import LogReader
from edgestream.logs.watch import LogWatcher
from streamkit.errors import RuntimeRejected
from tests.unit.edgestream.logs.support import (
    DEADLINE,
    Container,
    Follow,
    Followed,
    append,
    compress,
    lines,
    record,
    records,
    rotate,
    truncate,
    write,
)


class Scripted(Container):
    """A container that does something each time it is asked for its state."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        super().__init__()
        self.acts = list(acts)

    async def is_running(self) -> bool:
        await super().is_running()
        if self.acts:
            self.acts.pop(0)()
        return bool(self.acts)


@pytest.fixture
def often() -> object:
    """Asks for the container's state every hundredth of a second."""
    with mock.patch("edgestream.logs.follow.LOOK_INTERVAL", 0.01) as patched:
        yield patched


async def follow_to_end(log: Path, container: Container, watcher: LogWatcher) -> bytes:
    reader = await LogReader.open(
        str(log), LogOptions(follow=True), state=container, watcher=watcher
    )
    async with asyncio.timeout(DEADLINE):
        return b"".join([chunk async for chunk in reader.chunks()])


async def test_growth_and_end(log: Path, follow: Follow, container: Container) -> None:
    write(log, records(1, 2))
    followed = await follow()
    await followed.until(lines(1, 2))
    append(log, records(3, 3))
    await followed.until(lines(1, 3))
    append(log, records(4, 5000))
    await followed.until(lines(1, 5000))
    container.running = False
    append(log, records(5001, 5002))
    await followed.until_end(lines(1, 5002))


async def test_file_that_is_empty_at_first(log: Path, follow: Follow, container: Container) -> None:
    write(log, b"")
    followed = await follow()
    append(log, records(1, 1))
    await followed.until(lines(1, 1))


async def test_tail_zero_shows_the_end_of_an_open_record(log: Path, follow: Follow) -> None:
    write(log, records(1, 2) + record(3)[:30])
    followed = await follow(tail_lines=0)
    append(log, record(3)[30:])
    await followed.until(lines(3, 3))


@pytest.mark.usefixtures("often")
async def test_half_a_record_is_held_back(log: Path, watcher: LogWatcher) -> None:
    half = len(record(2)) // 2
    write(log, records(1, 1))
    container = Scripted(
        lambda: append(log, record(2)[:half]),
        lambda: None,
        lambda: append(log, record(2)[half:] + record(3)[:half]),
        lambda: None,
    )
    assert await follow_to_end(log, container, watcher) == lines(1, 2)


async def test_ended_container(log: Path, watcher: LogWatcher) -> None:
    write(log, records(1, 3))
    container = Container(running=False)
    assert await follow_to_end(log, container, watcher) == lines(1, 3)
    assert len(container.questions) == 1


async def test_last_lines_before_the_end(log: Path, watcher: LogWatcher) -> None:
    write(log, records(1, 3))
    container = Scripted(lambda: append(log, records(4, 6)))
    assert await follow_to_end(log, container, watcher) == lines(1, 6)


async def test_last_lines_shortly_after_the_end(log: Path, watcher: LogWatcher) -> None:
    write(log, records(1, 3))

    def write_later() -> None:
        asyncio.get_running_loop().call_later(0.03, append, log, records(4, 6))

    assert await follow_to_end(log, Scripted(write_later), watcher) == lines(1, 6)


async def test_container_that_is_gone(log: Path, watcher: LogWatcher) -> None:
    write(log, records(1, 3))

    def gone() -> None:
        append(log, records(4, 4))
        raise RuntimeRejected("container is gone")

    assert await follow_to_end(log, Scripted(gone), watcher) == lines(1, 4)


async def test_state_that_does_not_come(log: Path, watcher: LogWatcher) -> None:
    class Silent(Container):
        async def is_running(self) -> bool:
            await super().is_running()
            if len(self.questions) == 1:
                await asyncio.Event().wait()
            append(log, records(4, 4))
            return False

    write(log, records(1, 3))
    with (
        mock.patch("edgestream.logs.follow.STATE_TIMEOUT", 0.01),
        mock.patch("edgestream.logs.follow.LOOK_INTERVAL", 0.01),
    ):
        assert await follow_to_end(log, Silent(), watcher) == lines(1, 4)


async def test_state_is_not_asked_for_each_write(
    log: Path, container: Container, watcher: LogWatcher
) -> None:
    write(log, b"")
    reader = await LogReader.open(
        str(log), LogOptions(follow=True), state=container, watcher=watcher, now=lambda: 0.0
    )
    followed = Followed(reader.chunks())
    for number in range(1, 50):
        # A little later, so that the follower is already waiting for it.
        asyncio.get_running_loop().call_later(0.001, append, log, records(number, number))
        await followed.until(lines(1, number))
    await reader.close()
    assert len(container.questions) == 1


async def test_byte_limit_ends_a_follower(log: Path, follow: Follow) -> None:
    write(log, records(1, 1))
    followed = await follow(limit_bytes=10)
    append(log, records(2, 9))
    await followed.until_end(lines(1, 2)[:10])


async def test_rotation(log: Path, follow: Follow, container: Container) -> None:
    write(log, records(1, 2))
    followed = await follow()
    await followed.until(lines(1, 2))
    old = rotate(log, "20240501-100000")
    append(old, records(3, 4))
    await followed.until(lines(1, 4))
    write(log, records(6, 7))
    append(old, records(5, 5))  # what the runtime flushes once it has the new file
    await followed.until(lines(1, 7))
    container.running = False
    append(log, records(8, 8))
    await followed.until_end(lines(1, 8))


async def test_late_lines_come_before_the_switch(log: Path, follow: Follow) -> None:
    write(log, records(1, 2))
    followed = await follow()
    await followed.until(lines(1, 2))
    with mock.patch("edgestream.logs.follow.ROTATION_PAUSE", 0.3):
        old = rotate(log, "20240501-100000")
        write(log, records(4, 5))
        asyncio.get_running_loop().call_later(0.03, append, old, records(3, 3))
        await followed.until(lines(1, 5))


async def test_line_that_spans_a_rotation(log: Path, follow: Follow) -> None:
    write(log, record(1, "one ", tag="P"))
    followed = await follow(timestamps=True)
    rotate(log, "20240501-100000")
    write(log, record(2, "line") + record(3, "next"))
    await followed.until(
        b"2024-05-01T10:00:00.001000000Z one line\n2024-05-01T10:00:00.003000000Z next\n"
    )


async def test_late_lines_behind_the_switch(log: Path, follow: Follow) -> None:
    write(log, records(1, 2))
    followed = await follow()
    await followed.until(lines(1, 2))
    old = rotate(log, "20240501-100000")
    write(log, records(3, 3))
    await followed.until(lines(1, 3))
    append(old, records(4, 4))
    await followed.until(lines(1, 4))
    append(log, records(5, 5))
    await followed.until(lines(1, 5))


@pytest.mark.parametrize("packed", [False, True])
async def test_two_rotations_between_two_looks(log: Path, follow: Follow, packed: bool) -> None:
    write(log, records(1, 2))
    followed = await follow()
    await followed.until(lines(1, 2))
    append(log, records(3, 3))
    first = rotate(log, "20240501-100000")
    write(log, records(4, 5))
    if packed:
        compress(first)
    rotate(log, "20240501-100010")
    write(log, records(6, 6))
    await followed.until(lines(1, 6))
    rotate(log, "20240501-100020")
    write(log, records(7, 7))
    await followed.until(lines(1, 7))


async def test_many_rotations_between_two_looks(log: Path, follow: Follow) -> None:
    write(log, records(1, 1))
    followed = await follow()
    await followed.until(lines(1, 1))
    previous = None
    for number in range(2, 8):
        rotated = rotate(log, f"20240501-10000{number}")
        write(log, records(number, number))
        if previous is not None:
            compress(previous)
        previous = rotated
    await followed.until(lines(1, 7))


async def test_rotation_while_older_files_are_read(log: Path, follow: Follow) -> None:
    write(log, records(1, 2))
    rotate(log, "20240501-100000")
    write(log, records(3, 4))
    followed = await follow(tail_lines=3)
    rotate(log, "20240501-100010")
    write(log, records(5, 6))
    await followed.until(lines(2, 6))


async def test_removed_and_made_anew(log: Path, follow: Follow) -> None:
    write(log, records(1, 2))
    followed = await follow()
    await followed.until(lines(1, 2))
    os.unlink(log)
    write(log, records(3, 4))
    await followed.until(lines(1, 4))


@pytest.mark.parametrize("count", [1, 2, 3, 50])
async def test_truncated_and_written_anew(log: Path, follow: Follow, count: int) -> None:
    write(log, records(10, 11))
    followed = await follow()
    await followed.until(lines(10, 11))
    truncate(log)
    append(log, records(12, 11 + count))
    await followed.until(lines(10, 11 + count))
    append(log, records(12 + count, 12 + count))
    await followed.until(lines(10, 12 + count))


async def test_truncated_with_a_record_left_open(log: Path, follow: Follow) -> None:
    write(log, records(1, 1) + record(2)[:20])
    followed = await follow()
    await followed.until(lines(1, 1))
    truncate(log)
    append(log, records(3, 4))
    await followed.until(lines(1, 1) + lines(3, 4))


async def test_directory_is_removed(log: Path, follow: Follow, container: Container) -> None:
    write(log, records(1, 2))
    followed = await follow()
    await followed.until(lines(1, 2))
    os.unlink(log)
    os.rmdir(log.parent)
    container.running = False
    await followed.until_end(lines(1, 2))


async def test_several_followers(
    log: Path, follow: Follow, container: Container, watcher: LogWatcher
) -> None:
    write(log, records(1, 2))
    several = [await follow() for _ in range(3)]
    for last in range(3, 10):
        append(log, records(last, last))
        await asyncio.gather(*(followed.until(lines(1, last)) for followed in several))
    container.running = False
    await asyncio.gather(*(followed.until_end(lines(1, 9)) for followed in several))
