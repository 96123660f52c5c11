"""What the cloud's tunnel socket relies on in picows, much of it undocumented."""

import asyncio
import logging
import socket
import struct
from typing import Any

import pytest
from picows import (
    WSAutoPingStrategy,
    WSMsgType,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from streamkit.session.close_codes import CloseCode
from tests.contract.conftest import Tls
from tests.contract.loops import LoopFactory, on_both_loops, run
from tests.contract.picows_peer import (
    MAX_FRAME,
    NOT_UTF8,
    Protocol,
    connected,
    upgraded,
)
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
)


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
