"""A raw client of a picows server that is built as the tunnel server is."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import picows.picows
from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from streamkit.session.close_codes import CloseCode
from tests.contract.conftest import Tls
from tests.support.frames import (
    Frame,
    read_frame,
)

REQUEST = (
    b"GET /v1/kubeedge/connect HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"sessionhostnameoverride: edge-1\r\n\r\n"
)
NOT_UTF8 = b"\x02\x03\xff\xfe\xc3\x28"
MAX_FRAME = 200_000

_WSProtocol: Any = vars(picows.picows)["WSProtocol"]


def _connection_lost(self: Any, exc: Exception | None) -> None:
    if self.listener is not None:
        self.listener.events.append(("lost", type(exc).__name__))
    _WSProtocol.connection_lost(self, exc)


Protocol: Any = type("Protocol", (_WSProtocol,), {"connection_lost": _connection_lost})
"""A subclass hears how the connection ended."""


class Recorder(WSListener):
    """Notes what it is called with."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.transport: WSTransport | None = None
        self.changed = asyncio.Event()
        self.crashes = False

    def note(self, *event: Any) -> None:
        self.events.append(event)
        self.changed.set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.note("connected")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self.crashes:
            raise ValueError("a bug of ours")
        payload = frame.get_payload_as_bytes()
        if frame.msg_type == WSMsgType.CLOSE:
            code: Any = frame.get_close_code()
            self.note("close", code in (CloseCode.HEARTBEAT,), frame.get_close_reason())
        else:
            self.note(frame.msg_type, frame.fin, payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.note("disconnected")

    def pause_writing(self) -> None:
        self.note("paused")

    def resume_writing(self) -> None:
        self.note("resumed")

    async def saw(self, *event: Any) -> None:
        while event not in self.events:
            self.changed.clear()
            await self.changed.wait()


Answer = Callable[[WSUpgradeRequest], WSUpgradeResponseWithListener]


class Peer:
    """A raw client of one picows connection."""

    def __init__(
        self, recorder: Recorder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.recorder = recorder
        self.reader = reader
        self.writer = writer

    @property
    def transport(self) -> WSTransport:
        assert self.recorder.transport is not None
        return self.recorder.transport

    async def next_frame(self) -> Frame:
        return await read_frame(self.reader)


@contextlib.asynccontextmanager
async def connected(
    tls: Tls, *, answer: Answer | None = None, early: bytes = b"", handshake: float = 10
) -> AsyncIterator[Peer]:
    """A client that has asked for an upgrade of a server built as the tunnel server is."""
    recorder = Recorder()

    def accept(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        recorder.note("path", request.path, request.headers.get("SessionHostNameOverride"))
        response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": "v2"})
        return WSUpgradeResponseWithListener(response, recorder)

    def protocol() -> Any:
        return Protocol(
            None,
            None,
            False,
            answer or accept,
            logging.getLogger("picows"),
            True,
            handshake,
            False,
            1.0,
            1.0,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,
            MAX_FRAME,
            None,
            4096,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls.server)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.client)
    writer.write(REQUEST + early)
    try:
        yield Peer(recorder, reader, writer)
    finally:
        writer.transport.abort()
        server.close()
        if recorder.transport is not None:
            await recorder.saw("disconnected")


@contextlib.asynccontextmanager
async def upgraded(tls: Tls, *, early: bytes = b"") -> AsyncIterator[Peer]:
    """The same, past the 101."""
    async with connected(tls, early=early) as peer:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Protocol: v2\r\n" in head
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        await peer.recorder.saw("connected")
        yield peer
