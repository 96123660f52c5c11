"""The answer of a backend, passed on to the caller."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

from edgestream.kubelet.backend_connection import BackendConnection
from edgestream.kubelet.exchange import Exchange
from edgestream.spdy.outputs import OutputEnds
from edgestream.spdy.pings import PingFilter
from streamkit.errors import ChannelReset, IncompleteAnswer
from streamkit.http.headers import end_to_end
from streamkit.service.tasks import spawn
from streamkit.wire.exchange import ResponseHead

MAX_PINGS = 120
"""Bytes of pings that may wait. A ping has 12, and a client waits for its answer."""

STATUS_DEADLINE = 10.0
"""Seconds from the end of a command's output to its status, if its input does not get on either."""


@asynccontextmanager
async def alongside(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run the work in a task of its own for as long as the context lasts."""
    task = spawn(work, name=name, owner=set())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def relay_answer(
    exchange: Exchange, connection: BackendConnection, head: ResponseHead
) -> None:
    """Pass on a plain answer: its head, then its body as it comes.

    Raises IncompleteAnswer if the body breaks off.
    """
    await exchange.send_head(ResponseHead(head.status, end_to_end(head.headers), head.reason))
    async with aclosing(connection.body()) as body:
        async for data in body:
            await exchange.write(data)
    await exchange.end()


async def relay_upgrade(
    exchange: Exchange, connection: BackendConnection, head: ResponseHead, *, outputs: int = 0
) -> None:
    """Pass on a 101 and then raw bytes, until the backend ends and all it said is delivered.

    The caller's half-close is passed on and ends nothing else. Each direction waits for its own
    reader alone, but for SPDY's pings, which wait until the backend has nothing more to say.
    ``outputs`` is the number of a command's output streams, if known. Raises IncompleteAnswer if
    the backend's side breaks instead of ending, or can no longer end.
    """
    await exchange.send_head(head)
    to_backend = _ToBackend(exchange, connection)
    ends = OutputEnds(outputs)
    async with (
        alongside(to_backend.relay(), name="relay-to-backend"),
        alongside(to_backend.relay_pings(), name="relay-pings"),
        alongside(to_backend.give_up_when_stuck(), name="wait-for-status"),
    ):
        while data := await connection.read():
            ends.feed(data)
            await exchange.write(data)
            if ends.are_complete:
                to_backend.output_has_ended.set()
    if to_backend.has_given_up:
        raise IncompleteAnswer(
            "the command's output has ended, but the container runtime does not tell how the"
            " command ended: it still holds input that was not read"
        )
    await exchange.end()


class _ToBackend:
    """The caller's direction of an upgraded stream."""

    def __init__(self, exchange: Exchange, connection: BackendConnection) -> None:
        self._exchange = exchange
        self._connection = connection
        self._writing = asyncio.Lock()  # held from a frame's begin to its end
        self._pings = b""
        self._has_pings = asyncio.Event()
        self._written = 0
        self._is_waiting = False
        self.output_has_ended = asyncio.Event()
        self.has_given_up = False

    async def relay(self) -> None:
        """Pass on all but pings, up to the caller's half-close or the backend's end."""
        frames, is_writing = PingFilter(), False
        try:
            while data := await self._exchange.read():
                others, pings = frames.feed(data)
                if pings:
                    self._pings = (self._pings + pings)[:MAX_PINGS]
                    self._has_pings.set()
                if not others:
                    continue
                if not is_writing:
                    await self._writing.acquire()
                if not self._connection.secure_output():
                    return
                self._is_waiting = True
                await self._connection.write(others)
                self._is_waiting = False
                self._written += len(others)
                is_writing = frames.is_in_frame
                if not is_writing:
                    self._writing.release()
        except IncompleteAnswer:
            return  # it listens no more, but may have more to say; reading tells how it ends
        except ChannelReset:
            return  # the caller is gone, and the exchange as a whole is about to be cancelled
        self._connection.write_eof()

    async def relay_pings(self) -> None:
        """Pass on pings as soon as nothing waits to be read."""
        try:
            while True:
                await self._has_pings.wait()
                await self._connection.drained()
                async with self._writing:
                    if self._connection.is_drained:
                        pings, self._pings = self._pings, b""
                        self._has_pings.clear()
                        await self._connection.write(pings)
        except IncompleteAnswer:
            return  # as above

    async def give_up_when_stuck(self) -> None:
        """Stop listening once all output has ended and the input stands still for too long."""
        await self.output_has_ended.wait()
        written = -1
        while not (self._is_waiting and self._written == written):
            written = self._written
            await asyncio.sleep(STATUS_DEADLINE)
        self.has_given_up = True
        self._connection.stop_reading()
