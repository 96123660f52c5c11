"""A client of SPDY port-forwarding at the caller's end of an exchange."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from edgestream.spdy.frames import (
    Control,
    Data,
    Frame,
    FrameReader,
    Kind,
    control_frame,
    data_frame,
)
from edgestream.spdy.headers import HeaderReader, HeaderWriter
from tests.support.exchange import MemoryExchange

LIMIT = 20.0
CANCEL = 5


class SpdyClient:
    """What has come so far, by the number of the stream or as numbers of streams or pings."""

    def __init__(self, exchange: MemoryExchange) -> None:
        self._exchange = exchange
        self._frames = FrameReader()
        self._writer, self._reader = HeaderWriter(), HeaderReader()
        self._next_id = 1
        self._changed = asyncio.Condition()
        self.data: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.accepted: list[int] = []
        self.ended: list[int] = []
        self.resets: list[tuple[int, int]] = []
        self.pings: list[int] = []
        self.has_gone = self.is_closed = False

    async def open(self, **headers: str) -> int:
        """Open a stream with these headers, and return its number."""
        stream_id, self._next_id = self._next_id, self._next_id + 2
        payload = stream_id.to_bytes(4) + bytes(6) + self._writer.write(headers)
        await self._exchange.send(control_frame(Kind.SYN_STREAM, payload))
        return stream_id

    async def connect(self, port: int, request_id: int = 0) -> tuple[int, int]:
        """Open the two streams of a connection, as kubectl does: for errors, and for data."""
        common = {"port": str(port), "requestid": str(request_id)}
        errors = await self.open(streamtype="error", **common)
        await self.send(errors, is_last=True)
        data = await self.open(streamtype="data", **common)
        await self.until(lambda: {errors, data} <= set(self.accepted))
        return errors, data

    async def send(self, stream_id: int, data: bytes = b"", *, is_last: bool = False) -> None:
        """Send more of a stream, or its end."""
        await self._exchange.send(data_frame(stream_id, data, is_last=is_last))

    async def reset(self, stream_id: int) -> None:
        """Give a stream up."""
        payload = stream_id.to_bytes(4) + CANCEL.to_bytes(4)
        await self._exchange.send(control_frame(Kind.RST_STREAM, payload))

    async def ping(self, number: int) -> None:
        """Send a ping."""
        await self._exchange.send(control_frame(Kind.PING, number.to_bytes(4)))

    async def go_away(self) -> None:
        """Say that no more streams will be opened."""
        await self._exchange.send(control_frame(Kind.GOAWAY, bytes(8)))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what has come makes that true."""
        async with asyncio.timeout(LIMIT), self._changed:
            await self._changed.wait_for(condition)

    async def receive(self) -> None:
        """Take what comes, to the end; has to run all the time."""
        while data := await self._exchange.receive():
            for frame in self._frames.feed(data):
                self._take(frame)
            async with self._changed:
                self._changed.notify_all()
        async with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Data):
            self.data[frame.stream_id] += frame.payload
            if frame.is_last:
                self.ended.append(frame.stream_id)
            return
        assert isinstance(frame, Control)
        number = int.from_bytes(frame.payload[:4])
        if frame.kind == Kind.SYN_REPLY:
            assert self._reader.read(frame.payload[4:]) == {}
            self.accepted.append(number)
        elif frame.kind == Kind.RST_STREAM:
            self.resets.append((number, int.from_bytes(frame.payload[4:])))
        elif frame.kind == Kind.PING:
            self.pings.append(number)
        else:
            assert frame.kind == Kind.GOAWAY
            self.has_gone = True


@asynccontextmanager
async def receiving(exchange: MemoryExchange) -> AsyncIterator[SpdyClient]:
    """A client that takes what comes for the length of the block."""
    client = SpdyClient(exchange)
    task = asyncio.create_task(client.receive())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.wait([task])
