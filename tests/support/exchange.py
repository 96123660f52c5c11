"""One request in memory: what a handler sees on one side, what its caller does on the other."""

import asyncio

from edgestream.kubelet.exchange import KubeletHandler
from edgestream.kubelet.serve import answer
from streamkit.wire.exchange import RequestHead, ResponseHead

PIECE = 1 << 16


class _Pipe:
    """A bounded stream of bytes: a writer waits while it holds ``room`` bytes or more."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._data = bytearray()
        self._ended = False
        self._changed = asyncio.Condition()

    @property
    def held(self) -> int:
        return len(self._data)

    @property
    def ended(self) -> bool:
        return self._ended

    async def write(self, data: bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._data) < self._room)
            self._data += data
            self._changed.notify_all()

    async def end(self) -> None:
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def read(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._data or self._ended)
            piece = bytes(self._data[:PIECE])
            del self._data[:PIECE]
            self._changed.notify_all()
            return piece


class MemoryExchange:
    """An ``Exchange`` whose two directions hold about ``room`` bytes each.

    A handler uses the methods of ``Exchange``. A test plays the caller: ``send`` and ``send_eof``,
    ``head``, ``receive`` and ``receive_all``. A protocol error of the handler fails an assertion.
    """

    def __init__(self, request: RequestHead, *, room: int = PIECE) -> None:
        self._request = request
        self._head: asyncio.Future[ResponseHead] = asyncio.get_running_loop().create_future()
        self._to_caller = _Pipe(room)
        self._to_handler = _Pipe(room)

    # -- the handler's side

    @property
    def request(self) -> RequestHead:
        return self._request

    async def send_head(self, head: ResponseHead) -> None:
        assert not self._head.done(), "a second head"
        self._head.set_result(head)

    async def write(self, data: bytes) -> None:
        assert self._head.done(), "bytes before the head"
        assert not self._to_caller.ended, "bytes after the end"
        await self._to_caller.write(data)

    async def end(self) -> None:
        await self._to_caller.end()

    async def read(self) -> bytes:
        return await self._to_handler.read()

    # -- the caller's side

    @property
    def has_head(self) -> bool:
        """Whether the handler has sent its head."""
        return self._head.done()

    @property
    def held(self) -> int:
        """Bytes that the handler wrote and the caller has not received."""
        return self._to_caller.held

    async def head(self) -> ResponseHead:
        """Wait for the answer's head."""
        return await asyncio.shield(self._head)

    async def receive(self) -> bytes:
        """The answer's next bytes, 64 KiB at most; empty at its end."""
        return await self._to_caller.read()

    async def receive_all(self) -> bytes:
        """The rest of the answer, up to its end."""
        data = bytearray()
        while piece := await self.receive():
            data += piece
        return bytes(data)

    async def receive_until(self, mark: bytes) -> bytes:
        """The answer's bytes up to the first piece that completes the mark, or to the end."""
        data = bytearray()
        while mark not in data and (piece := await self.receive()):
            data += piece
        return bytes(data)

    async def send(self, data: bytes) -> None:
        """Send the handler more of the request's body, or of the upgraded stream."""
        await self._to_handler.write(data)

    async def send_eof(self) -> None:
        """Half-close: the handler reads the end."""
        await self._to_handler.end()


async def ask(handler: KubeletHandler, request: RequestHead) -> tuple[ResponseHead, bytes]:
    """What the handler answers in full, errors before the head included."""
    exchange = MemoryExchange(request)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(exchange.receive_all())
        await answer(handler, exchange)
        await exchange.end()
    return await exchange.head(), reading.result()
