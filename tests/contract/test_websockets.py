"""What the edge's tunnel relies on in the websockets library."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

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
from tests.support.websocket_server import RawWebSocket, raw_server

NOT_UTF8 = b"\x02\x03\xff\xfe\xc3\x28"
MAX_SIZE = 100_000


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[RawWebSocket, ClientConnection]]:
    """A connection made as the edge makes it, TLS aside, and the server's raw end."""
    async with asyncio.timeout(20), raw_server() as server:
        connection = await connect(
            f"ws://127.0.0.1:{server.port}/v1/kubeedge/connect",
            additional_headers={"SessionHostNameOverride": "edge-1"},
            user_agent_header="edgestream",
            subprotocols=[Subprotocol("v2")],
            compression=None,
            proxy=None,
            ping_interval=None,
            close_timeout=1,
            max_size=MAX_SIZE,
            max_queue=16,
            write_limit=64 * 1024,
        )
        try:
            yield await server.accept(), connection
        finally:
            connection.transport.abort()


async def test_the_handshake_offers_what_it_should_and_nothing_else() -> None:
    async with connected() as (raw, connection):
        assert raw.path == "/v1/kubeedge/connect"
        assert raw.headers["sessionhostnameoverride"] == "edge-1"
        assert raw.headers["sec-websocket-protocol"] == "v2"
        assert "sec-websocket-extensions" not in raw.headers
        assert "origin" not in raw.headers
        assert connection.subprotocol is None


async def test_messages_of_either_type_are_received_as_bytes_unchecked() -> None:
    async with connected() as (raw, connection):
        raw.send(frame(TEXT, NOT_UTF8, masked=False))
        raw.send(frame(BINARY, b"\0", masked=False))
        raw.send(frame(TEXT, NOT_UTF8[:4], fin=False, masked=False))
        raw.send(frame(PING, b"between", masked=False))
        raw.send(frame(CONTINUATION, NOT_UTF8[4:], masked=False))
        received = [await connection.recv(decode=False) for _ in range(3)]
        assert received == [NOT_UTF8, b"\0", NOT_UTF8]
        assert await raw.receive() == Frame(True, PONG, b"between", is_masked=True)


async def test_bytes_are_sent_as_text_or_binary_in_one_masked_frame() -> None:
    async with connected() as (raw, connection):
        for data, is_text in ((NOT_UTF8, True), (bytes(70_000), True), (b"\0", False)):
            await connection.send(data, text=is_text)
            opcode = TEXT if is_text else BINARY
            assert await raw.receive() == Frame(True, opcode, data, is_masked=True)


async def test_several_pings_may_be_on_their_way() -> None:
    async with connected() as (raw, connection):
        pongs = [await connection.ping() for _ in range(3)]
        pings = [await raw.receive() for _ in range(3)]
        assert {ping.opcode for ping in pings} == {PING}
        # One answer to the latest answers the earlier ones as well (RFC 6455 §5.5.3).
        raw.send(frame(PONG, pings[1].payload, masked=False))
        assert [await pong >= 0 for pong in pongs[:2]] == [True, True]
        assert isinstance(pongs[2], asyncio.Future)
        assert not pongs[2].done()


async def test_a_pong_that_never_comes_ends_with_the_connection_and_warns_nobody() -> None:
    async with connected() as (raw, connection):
        pong = await connection.ping()
        raw.abort()
        with pytest.raises(ConnectionClosed):
            await connection.recv(decode=False)
        assert isinstance(pong, asyncio.Future)
        assert isinstance(pong.exception(), ConnectionClosed)
        with pytest.raises(ConnectionClosed):
            await connection.ping()


async def test_no_ping_is_sent_unasked_and_pings_are_answered() -> None:
    async with connected() as (raw, connection):
        raw.send(frame(PING, b"ping", masked=False))
        assert await raw.receive() == Frame(True, PONG, b"ping", is_masked=True)
        await connection.send(b"x", text=True)
        assert (await raw.receive()).opcode == TEXT


async def test_our_own_close_codes_are_received_and_sent() -> None:
    async with connected() as (raw, connection):
        raw.send(close_frame(4001, "a newer tunnel took over", masked=False))
        assert (await raw.receive()).close_code == 4001
        raw.writer.close()
        with pytest.raises(ConnectionClosed) as raised:
            await connection.recv(decode=False)
        assert raised.value.rcvd is not None
        assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (
            4001,
            "a newer tunnel took over",
        )
    async with connected() as (raw, connection):
        closing = asyncio.ensure_future(connection.close(4008, "silent"))
        received = await raw.receive()
        assert (received.opcode, received.close_code, received.close_reason) == (
            CLOSE,
            4008,
            "silent",
        )
        raw.send(close_frame(4008, masked=False))
        raw.writer.close()
        await closing


async def test_a_peer_that_closes_and_stays_is_noticed_by_the_next_ping() -> None:
    # A receiver would wait for the end of the connection, however long that takes.
    async with connected() as (raw, connection):
        raw.send(close_frame(4004, "draining", masked=False))
        assert (await raw.receive()).close_code == 4004
        with pytest.raises(ConnectionClosed) as raised:
            await connection.ping()
        assert raised.value.rcvd is not None
        assert raised.value.rcvd.code == 4004


@pytest.mark.parametrize("way", ["FIN", "RST"])
async def test_a_lost_connection_carries_no_code(way: str) -> None:
    async with connected() as (raw, connection):
        if way == "FIN":
            raw.writer.close()
        else:
            raw.abort()
        with pytest.raises(ConnectionClosed) as raised:
            await connection.recv(decode=False)
        assert raised.value.rcvd is None
        with pytest.raises(ConnectionClosed):
            await connection.send(b"x", text=True)


async def test_a_message_beyond_the_limit_is_refused_with_its_code() -> None:
    async with connected() as (raw, connection):
        raw.send(frame(TEXT, bytes(MAX_SIZE + 1), masked=False))
        assert (await raw.receive()).close_code == 1009
        raw.writer.close()
        with pytest.raises(ConnectionClosed) as raised:
            await connection.recv(decode=False)
        assert raised.value.rcvd is None


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with connected() as (raw, connection):
        receiving = asyncio.ensure_future(connection.recv(decode=False))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait((receiving,))
        raw.send(frame(TEXT, b"kept", masked=False))
        assert await connection.recv(decode=False) == b"kept"


async def test_sending_waits_for_a_peer_that_does_not_read_and_may_be_cancelled() -> None:
    async with connected() as (raw, connection):
        sent = 0
        try:
            async with asyncio.timeout(0.5):
                while True:
                    await connection.send(bytes(MAX_SIZE), text=True)
                    sent += 1
        except TimeoutError:
            pass
        # What was accepted before is whole.
        for _ in range(sent):
            assert len((await raw.receive()).payload) == MAX_SIZE


async def test_a_refusal_carries_status_and_body() -> None:
    async with asyncio.timeout(20), raw_server(refusal=b"403 Forbidden") as server:
        with pytest.raises(InvalidStatus) as raised:
            await connect(f"ws://127.0.0.1:{server.port}/", proxy=None, compression=None)
        assert raised.value.response.status_code == 403
        assert raised.value.response.body == b"not you\n"


async def test_frames_are_read_by_the_same_code_that_the_tests_use() -> None:
    reader = asyncio.StreamReader()
    for size in (0, 1, 125, 126, 65535, 65536):
        for masked in (True, False):
            reader.feed_data(frame(TEXT, bytes(size), masked=masked))
            assert await read_frame(reader) == Frame(True, TEXT, bytes(size), masked)
