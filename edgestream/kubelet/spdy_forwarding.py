"""Port-forwarding over SPDY (``portforward.k8s.io``).

For each connection the client opens two streams, of the types ``error`` and ``data``. What one has
to say about a connection that fails goes on the first, which ends when the connection is over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from edgestream.answers import UNSNIFFED_TEXT, KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.forwarding import Ports, forward, port_number
from edgestream.kubelet.inbox import Inbox, Room
from edgestream.spdy.frames import Status
from edgestream.spdy.server import (
    Answer,
    Event,
    GoneAway,
    SpdyServer,
    StreamData,
    StreamEnded,
    StreamOpened,
)
from streamkit.errors import BadRequest, ChannelReset
from streamkit.service.tasks import cancel_all, spawn
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values

PROTOCOL = "portforward.k8s.io"

MAX_HELD = 1 << 20
"""Bytes from the caller that may wait for slow servers; then nothing is read from it any more."""

MAX_CONNECTIONS = 1000
"""Connections of one caller; further streams are refused."""

STREAMS_DEADLINE = 30.0
"""Seconds from the first stream of a connection to the second."""

_ERROR, _DATA = "error", "data"
_VERSION_HEADER = "X-Stream-Protocol-Version"


def accept_spdy(request: RequestHead) -> ResponseHead:
    """The 101 for a client of SPDY. Raises the KubeletAnswer for one that can't be served."""
    lines = header_values(request.headers, _VERSION_HEADER)
    offered = [name.strip() for line in lines for name in line.split(",")]
    if not offered:
        raise _refusal(400, f"{_VERSION_HEADER} is required")
    if PROTOCOL not in offered:
        raise _refusal(
            403,
            f"unable to negotiate protocol: client supports [{' '.join(offered)}],"
            f" server accepts [{PROTOCOL}]",
            ("X-Accepted-Stream-Protocol-Versions", PROTOCOL),
        )
    if not any("spdy/3.1" in value.lower() for value in header_values(request.headers, "upgrade")):
        raise _refusal(400, "missing upgrade headers in request")
    return ResponseHead(
        101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), (_VERSION_HEADER, PROTOCOL))
    )


def _refusal(status: int, why: str, *headers: tuple[str, str]) -> KubeletAnswer:
    body = f"unable to upgrade: {why}\n"
    return KubeletAnswer(status, body, headers=(*UNSNIFFED_TEXT, *headers))


class SpdyForwarding:
    """One client, with all its connections."""

    def __init__(self, exchange: Exchange, ports: Ports) -> None:
        self._exchange = exchange
        self._ports = ports
        self._spdy = SpdyServer()
        self._writing = asyncio.Lock()
        self._room = Room(MAX_HELD)
        self._incomplete: dict[str, _Pair] = {}
        self._by_data_stream: dict[int, _Pair] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Serve until the client leaves, or says it will and has no connection; then drop all.

        Raises BadRequest for a client that can't be understood.
        """
        try:
            while data := await self._exchange.read():
                for event in self._spdy.receive(data):
                    if isinstance(event, GoneAway) and not self._tasks:
                        return
                    await self._handle(event)
                await self._room.available()
        except BadRequest:
            await self._send(self._spdy.go_away())
            raise
        finally:
            await cancel_all(self._tasks)

    async def _send(self, frames: bytes) -> None:
        """Send whole frames; connections take turns while the client is slow."""
        if frames:
            async with self._writing:
                await self._exchange.write(frames)

    async def _handle(self, event: Event) -> None:
        if isinstance(event, StreamOpened):
            await self._open(event)
        elif isinstance(event, Answer):
            await self._send(event.frame)
        elif isinstance(event, GoneAway):
            return
        elif pair := self._by_data_stream.get(event.stream_id):
            if isinstance(event, StreamData):
                pair.inbox.put(bytes(event.payload))
            elif isinstance(event, StreamEnded):
                pair.inbox.end()
            else:
                self._forget(pair)
                pair.task.cancel()
                await pair.succeed()

    async def _open(self, opened: StreamOpened) -> None:
        kind, port = opened.headers.get("streamtype"), port_number(opened.headers.get("port", ""))
        if kind not in (_ERROR, _DATA) or port is None:
            await self._send(self._spdy.reset(opened.stream_id, Status.CANCEL))
            return
        request_id = _request_id(opened, kind)
        pair = self._incomplete.get(request_id)
        if pair is None and len(self._tasks) >= MAX_CONNECTIONS:
            await self._send(self._spdy.reset(opened.stream_id, Status.REFUSED_STREAM))
            return
        if pair is None:
            pair = self._incomplete[request_id] = _Pair(
                request_id, self._spdy, self._send, Inbox(self._room)
            )
            pair.task = spawn(self._serve(pair), name=f"forward {request_id}", owner=self._tasks)
            # Not in the task itself: one that is cancelled before its first step does nothing.
            pair.task.add_done_callback(lambda _: self._forget(pair))
        if kind in pair.streams:
            await self._send(self._spdy.reset(opened.stream_id, Status.CANCEL))
            sentence = f"{kind} stream already assigned"
            await pair.tell(f"error processing stream for request {request_id}: {sentence}")
            return
        await self._send(self._spdy.accept(opened.stream_id))
        pair.streams[kind] = opened.stream_id
        if kind == _DATA:
            pair.port = port
            self._by_data_stream[opened.stream_id] = pair
        if len(pair.streams) == 2:
            self._incomplete.pop(request_id, None)
            pair.is_complete.set()

    async def _serve(self, pair: "_Pair") -> None:
        try:
            if await pair.completed():
                await forward(self._ports, pair.port, pair.inbox, pair)
            else:
                await pair.fail(f"(request={pair.request_id}) timed out waiting for streams")
        except ChannelReset:
            return  # the client is gone, and the exchange as a whole is about to be cancelled

    def _forget(self, pair: "_Pair") -> None:
        pair.inbox.close()
        self._by_data_stream.pop(pair.streams.get(_DATA, 0), None)
        if self._incomplete.get(pair.request_id) is pair:
            del self._incomplete[pair.request_id]


class _Pair:
    """The two streams of one connection, as far as they have come. A ``Caller``."""

    task: asyncio.Task[None]

    def __init__(
        self,
        request_id: str,
        spdy: SpdyServer,
        send: Callable[[bytes], Awaitable[None]],
        inbox: Inbox,
    ) -> None:
        self.request_id = request_id
        self.inbox = inbox
        self.port = 0
        self.streams: dict[str, int] = {}
        self.is_complete = asyncio.Event()
        self._spdy = spdy
        self._send = send

    async def completed(self) -> bool:
        """Wait for both streams; False if that takes too long."""
        try:
            async with asyncio.timeout(STREAMS_DEADLINE):
                return await self.is_complete.wait()
        except TimeoutError:
            return False

    async def write(self, data: bytes) -> None:
        await self._send(self._spdy.send(self.streams[_DATA], data))

    async def write_eof(self) -> None:
        await self._send(self._spdy.send(self.streams[_DATA], is_last=True))

    async def tell(self, sentence: str) -> None:
        """Send an error, if the stream for it has come."""
        if error_stream := self.streams.get(_ERROR):
            await self._send(self._spdy.send(error_stream, sentence.encode(errors="replace")))

    async def succeed(self) -> None:
        if error_stream := self.streams.get(_ERROR):
            await self._send(self._spdy.send(error_stream, is_last=True))

    async def fail(self, sentence: str) -> None:
        await self.tell(sentence)
        await self.succeed()
        if data_stream := self.streams.get(_DATA):
            await self._send(self._spdy.send(data_stream, is_last=True))


def _request_id(opened: StreamOpened, kind: str) -> str:
    """What the two streams of a connection have in common; old clients open one after the other."""
    own = opened.headers.get("requestid")
    return own or str(opened.stream_id - (2 if kind == _DATA else 0))
