"""What a connection asks of its transport."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from cloudstream.config import CloudDeadlines
from cloudstream.stream_connection import StreamConnection


class Transport(asyncio.Transport):
    """Remembers whether it is to read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def close(self) -> None:
        """Nothing is kept open."""


async def answer(*_: object) -> None:
    raise AssertionError("nobody asked")


def spawn(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    raise AssertionError(f"nobody asked: {work}, {name}")


async def test_reading_pauses_when_what_was_read_has_been_handed_over() -> None:
    connection = StreamConnection(
        answer, spawn, set(), CloudDeadlines(), max_head_bytes=1024, dialled="here", peer="there"
    )
    transport = Transport()
    connection.connection_made(transport)
    seen = []
    for step in (connection.pause_reading, connection.resume_reading):
        step()
        seen.append(transport.is_read)
        await asyncio.sleep(0)
        seen.append(transport.is_read)
    connection.pause_reading()
    connection.resume_reading()
    await asyncio.sleep(0)
    assert [*seen, transport.is_read] == [True, False, True, True, True]
    connection.connection_lost(None)
