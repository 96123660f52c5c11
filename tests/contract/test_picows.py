"""What the cloud's tunnel socket relies on in picows, much of it undocumented."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import picows.picows
import pytest
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
from tests.contract.loops import LoopFactory, on_both_loops, run
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    close_frame,
    frame,
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


@on_both_loops
def test_text_is_not_checked_and_names_of_headers_have_no_case(
    loop_factory: LoopFactory, tls: Tls
) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            peer.writer.write(frame(TEXT, NOT_UTF8, masked=True))
            peer.writer.write(frame(BINARY, b"\0", masked=True))
            await peer.recorder.saw(WSMsgType.BINARY, True, b"\0")
            assert peer.recorder.events == [
                ("path", b"/v1/kubeedge/connect", "edge-1"),
                ("connected",),
                (WSMsgType.TEXT, True, NOT_UTF8),
                (WSMsgType.BINARY, True, b"\0"),
            ]

    run(loop_factory, work())


@on_both_loops
def test_frames_right_behind_the_request_are_delivered(loop_factory: LoopFactory, tls: Tls) -> None:
    async def work() -> None:
        async with upgraded(tls, early=frame(TEXT, b"early", masked=True)) as peer:
            await peer.recorder.saw(WSMsgType.TEXT, True, b"early")

    run(loop_factory, work())


@on_both_loops
def test_fragments_are_delivered_one_by_one(loop_factory: LoopFactory, tls: Tls) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            for opcode, piece, fin in (
                (TEXT, b"a" * 4096, False),
                (CONTINUATION, b"", False),
                (PING, b"", True),
                (CONTINUATION, b"b", True),
            ):
                peer.writer.write(frame(opcode, piece, fin=fin, masked=True))
            await peer.recorder.saw(WSMsgType.CONTINUATION, True, b"b")
            assert peer.recorder.events[2:] == [
                (WSMsgType.TEXT, False, b"a" * 4096),
                (WSMsgType.CONTINUATION, False, b""),
                (WSMsgType.PING, True, b""),
                (WSMsgType.CONTINUATION, True, b"b"),
            ]

    run(loop_factory, work())


@on_both_loops
def test_pings_are_left_to_us(loop_factory: LoopFactory, tls: Tls) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            peer.writer.write(frame(PING, b"ping you", masked=True))
            await peer.recorder.saw(WSMsgType.PING, True, b"ping you")
            peer.transport.send_pong(b"ping you")
            assert await peer.next_frame() == Frame(True, PONG, b"ping you")
            peer.transport.send_ping()
            assert await peer.next_frame() == Frame(True, PING, b"")
            peer.writer.write(frame(PONG, b"", masked=True))
            await peer.recorder.saw(WSMsgType.PONG, True, b"")
            assert len(peer.recorder.events) == 4

    run(loop_factory, work())


@on_both_loops
def test_large_frames_leave_whole_and_in_order(loop_factory: LoopFactory, tls: Tls) -> None:
    # Above 8 KiB the header goes to the transport as a view of a buffer that is used again.
    async def work() -> None:
        async with upgraded(tls) as peer:
            sizes = (0, 125, 126, 8192, 8193, 65535, 65536, 300_000, 5) * 3
            for number, size in enumerate(sizes):
                peer.transport.send(WSMsgType.TEXT, bytes((number,)) * size)
            for number, size in enumerate(sizes):
                received = await peer.next_frame()
                assert received == Frame(True, TEXT, bytes((number,)) * size)

    run(loop_factory, work())


@on_both_loops
def test_writing_is_paused_and_resumed(loop_factory: LoopFactory, tls: Tls) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            peer.transport.underlying_transport.set_write_buffer_limits(high=64 * 1024)
            pieces = 0
            while ("paused",) not in peer.recorder.events:
                peer.transport.send(WSMsgType.BINARY, bytes(32 * 1024))
                pieces += 1
                assert pieces < 10_000
            for _ in range(pieces):
                await peer.next_frame()
            await peer.recorder.saw("resumed")

    run(loop_factory, work())


@on_both_loops
@pytest.mark.parametrize("code", [1001, 1002, *(code for code in CloseCode if code >= 4000)])
def test_close_codes_of_our_own_are_sent(loop_factory: LoopFactory, tls: Tls, code: int) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            sent_code: Any = int(code)
            peer.transport.send_close(sent_code, b"a sentence")
            peer.transport.disconnect()
            received = await peer.next_frame()
            assert (received.opcode, received.close_code) == (CLOSE, code)
            assert received.close_reason == "a sentence"
            assert await peer.reader.read() == b""

    run(loop_factory, work())


@on_both_loops
def test_close_codes_of_our_own_are_received(loop_factory: LoopFactory, tls: Tls) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            peer.writer.write(close_frame(4008, "silent", masked=True))
            await peer.recorder.saw("close", True, "silent")
        async with upgraded(tls) as peer:
            peer.writer.write(frame(CLOSE, masked=True))
            await peer.recorder.saw("close", False, None)

    run(loop_factory, work())


@on_both_loops
@pytest.mark.parametrize("way", ["FIN", "RST", "own"])
def test_a_subclass_hears_how_the_connection_ended(
    loop_factory: LoopFactory, tls: Tls, way: str
) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            if way == "FIN":
                peer.writer.close()
            elif way == "RST":
                sock = peer.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.writer.transport.abort()
            else:
                peer.transport.disconnect(graceful=False)
            await peer.recorder.saw("disconnected")
            ((_, how),) = [event for event in peer.recorder.events if event[0] == "lost"]
            assert (how == "NoneType") is (way != "RST")

    run(loop_factory, work())


@on_both_loops
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(0x3, b"x", masked=True), 1002),
        (frame(TEXT, bytes(MAX_FRAME + 1), masked=True)[:100], 1009),
    ],
    ids=["unmasked", "opcode", "size"],
)
def test_what_is_no_frame_ends_the_connection(
    loop_factory: LoopFactory, tls: Tls, sent: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            peer.writer.write(sent)
            assert (await peer.next_frame()).close_code == code
            assert await peer.reader.read() == b""
            await peer.recorder.saw("disconnected")

    run(loop_factory, work())


@on_both_loops
def test_a_listener_that_raises_ends_the_connection(
    loop_factory: LoopFactory, tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            peer.recorder.crashes = True
            peer.writer.write(frame(TEXT, b"x", masked=True))
            assert (await peer.next_frame()).close_code == 1011
            await peer.recorder.saw("disconnected")

    run(loop_factory, work())


@on_both_loops
def test_a_refusal_has_our_status_and_body(loop_factory: LoopFactory, tls: Tls) -> None:
    def refuse(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        assert request.headers.getall("Sec-WebSocket-Protocol", ()) == ()
        response = WSUpgradeResponse.create_error_response(403, b"not you\n")
        return WSUpgradeResponseWithListener(response, None)

    async def work() -> None:
        async with connected(tls, answer=refuse) as peer:
            answer = await peer.reader.read()
            assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
            assert answer.endswith(b"\r\n\r\nnot you\n")

    run(loop_factory, work())


@on_both_loops
def test_a_client_that_never_asks_is_dropped(loop_factory: LoopFactory, tls: Tls) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        protocols: list[Any] = []

        def protocol() -> Any:
            made = Protocol(
                None, None, False, lambda request: None, logging.getLogger("picows"), True, 0.05,
                False, 1.0, 1.0, WSAutoPingStrategy.PING_WHEN_IDLE, False, 10, None, 4096,
            )  # fmt: skip
            protocols.append(made)
            return made

        server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls.server)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.client)
        assert await reader.read() == b""
        with pytest.raises(TimeoutError):
            await protocols[0].wait_until_handshake_complete()
        writer.transport.abort()
        server.close()

    run(loop_factory, work())
