import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import pytest

from edgestream.kubelet.backend_connection import MOST_AHEAD, READ_SIZE, BackendConnection
from streamkit.errors import BadRequest, IncompleteAnswer, StreamingDialFailed
from streamkit.wire.exchange import RequestHead, ResponseHead
from tests.support.http_server import SWITCHED, Peer, Script, free_port, scripted_server

LIMIT = 5.0
GET = RequestHead("GET", "/pods")
UPGRADE = RequestHead("POST", "/exec/t0k3n", (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))


@asynccontextmanager
async def dialled(script: Script) -> AsyncIterator[BackendConnection]:
    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        connection = await BackendConnection.dial("127.0.0.1", server.port, deadline=LIMIT)
        with closing(connection):
            yield connection
        connection.close()


def replying(*pieces: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        for piece in pieces:
            await peer.send(piece)

    return script


async def body_of(connection: BackendConnection) -> bytes:
    return b"".join([piece async for piece in connection.body()])


async def test_the_request_head_goes_out_line_by_line() -> None:
    heads: list[list[str]] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.receive_head())
        await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    headers = (
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
        ("x-stream-protocol-version", "channel.k8s.io"),
        ("Connection", "Upgrade"),
    )
    async with dialled(script) as connection:
        await connection.send_head(RequestHead("POST", "/exec/a?x=%20&y", headers))
        assert (await connection.response_head()).status == 204
    request_line, host, *lines = heads[0]
    assert request_line == "POST /exec/a?x=%20&y HTTP/1.1"
    assert host.startswith("Host: 127.0.0.1:")
    assert lines == [f"{name}: {value}" for name, value in headers]


async def test_the_response_head_comes_line_by_line() -> None:
    reply = b"HTTP/1.1 404 Nope\r\nX-a: 1\r\nx-A: 2\r\nContent-Length: 2\r\n\r\nno"
    async with dialled(replying(reply)) as connection:
        await connection.send_head(GET)
        head = await connection.response_head()
        assert head == ResponseHead(
            404, (("X-a", "1"), ("x-A", "2"), ("Content-Length", "2")), "Nope"
        )
        assert await body_of(connection) == b"no"


async def test_interim_answers_are_skipped() -> None:
    reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with dialled(replying(reply)) as connection:
        await connection.send_head(GET)
        assert (await connection.response_head()).status == 200


@pytest.mark.parametrize(
    "pieces",
    [
        (SWITCHED + b"first",),
        (SWITCHED[:20], SWITCHED[20:] + b"fi", b"rst"),
        (SWITCHED, b"first"),
    ],
)
async def test_no_byte_behind_a_101_is_lost(pieces: tuple[bytes, ...]) -> None:
    async with dialled(replying(*pieces)) as connection:
        await connection.send_head(UPGRADE)
        assert (await connection.response_head()).status == 101
        received = b""
        while data := await connection.read():
            received += data
        assert received == b"first"


async def test_half_closes_are_independent() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED)
        received = await peer.receive_all()
        await peer.send(b"got " + received)

    async with dialled(script) as connection:
        await connection.send_head(UPGRADE)
        await connection.response_head()
        await connection.write(b"all of it")
        connection.write_eof()
        assert await connection.read() == b"got all of it"
        assert await connection.read() == b""
        connection.write_eof()


async def test_output_survives_a_failing_write() -> None:
    output = b"x" * 50_000
    is_closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + output)
        is_closed.set()  # closed right after, with input unread or still to come

    async def write_until_it_fails(connection: BackendConnection) -> None:
        while True:
            await connection.write(b"y" * 1000)
            await asyncio.sleep(0)

    async with dialled(script) as connection:
        await connection.send_head(UPGRADE)
        await connection.response_head()
        await is_closed.wait()
        with pytest.raises(IncompleteAnswer):
            await write_until_it_fails(connection)
        received = b""
        while len(received) < len(output):
            received += await connection.read()
        assert received == output


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 11", b"hello world"),
        (b"Transfer-Encoding: chunked", b"6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"),
        (b"Connection: close", b"hello world"),
    ],
)
async def test_bodies_come_without_their_framing(framing: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"
    async with dialled(replying(head, body[:7], body[7:])) as connection:
        await connection.send_head(GET)
        await connection.response_head()
        assert await body_of(connection) == b"hello world"


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 11", b"hello"),
        (b"Transfer-Encoding: chunked", b"6\r\nhello \r\n"),
        (b"Transfer-Encoding: chunked", b"6\r\nhello \r\nzz\r\n"),
    ],
)
async def test_a_body_that_breaks_off_is_no_end(framing: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"
    async with dialled(replying(head + body)) as connection:
        await connection.send_head(GET)
        await connection.response_head()
        with pytest.raises(IncompleteAnswer, match=r"127\.0\.0\.1:\d+ broke off"):
            await body_of(connection)


async def test_request_bodies_are_framed_as_announced() -> None:
    received: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.receive_head()
        received.append(await peer.receive_exactly(len(b"3\r\nabc\r\n0\r\n\r\n")))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    chunked = RequestHead("POST", "/run", (("Transfer-Encoding", "chunked"),))
    async with dialled(script) as connection:
        await connection.send_head(chunked, has_body=True)
        await connection.send_body(b"abc")
        await connection.end_body()
        await connection.response_head()
    assert received == [b"3\r\nabc\r\n0\r\n\r\n"]


async def test_request_bodies_have_to_be_as_long_as_announced() -> None:
    request = RequestHead("POST", "/run", (("Content-Length", "3"),))
    async with dialled(replying()) as connection:
        await connection.send_head(request, has_body=True)
        with pytest.raises(BadRequest, match="longer"):
            await connection.send_body(b"abcd")
    async with dialled(replying()) as connection:
        await connection.send_head(request, has_body=True)
        with pytest.raises(BadRequest, match="shorter"):
            await connection.end_body()


@pytest.mark.parametrize(
    "request_head",
    [
        RequestHead("GET", "/a b"),
        RequestHead("GET", "/a\r\nX: y"),
        RequestHead("GET", "/", (("X", "y\r\nZ: secret"),)),
        RequestHead("GET", "/", (("X", "\u20ac"),)),
        RequestHead("GE T", "/"),
    ],
)
async def test_heads_that_are_no_http_are_refused_unsaid(request_head: RequestHead) -> None:
    async with dialled(replying()) as connection:
        with pytest.raises(BadRequest) as caught:
            await connection.send_head(request_head)
        assert "secret" not in str(caught.value)


async def test_nobody_listens() -> None:
    port = free_port()
    async with asyncio.timeout(LIMIT):
        with pytest.raises(StreamingDialFailed) as caught:
            await BackendConnection.dial("127.0.0.1", port, deadline=LIMIT)
    assert str(caught.value) == f"dial tcp 127.0.0.1:{port}: connect: connection refused"


async def test_ipv6_addresses_are_bracketed() -> None:
    async with asyncio.timeout(LIMIT):
        with pytest.raises(StreamingDialFailed, match=r"dial tcp \[::1\]:1: "):
            await BackendConnection.dial("::1", 1, deadline=LIMIT)


async def test_the_server_leaves_without_a_word() -> None:
    async with dialled(replying()) as connection:
        await connection.send_head(GET)
        with pytest.raises(StreamingDialFailed, match=r"^unexpected EOF$"):
            await connection.response_head()


async def test_the_server_leaves_within_the_head() -> None:
    async with dialled(replying(b"HTTP/1.1 101 Switch")) as connection:
        await connection.send_head(UPGRADE)
        with pytest.raises(StreamingDialFailed, match=r"^unexpected EOF$"):
            await connection.response_head()


async def test_the_server_talks_something_else() -> None:
    async with dialled(replying(b"SSH-2.0-x\r\n\r\n")) as connection:
        await connection.send_head(GET)
        with pytest.raises(StreamingDialFailed, match=r"^malformed HTTP response$"):
            await connection.response_head()


async def test_the_server_resets_within_the_head() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 101 Switch")
        peer.reset()

    async with dialled(script) as connection:
        await connection.send_head(UPGRADE)
        with pytest.raises(
            StreamingDialFailed, match=r"^read tcp .*->127.*: read: connection reset by peer$"
        ):
            await connection.response_head()


async def test_a_101_that_nobody_asked_for_is_malformed() -> None:
    async with dialled(replying(SWITCHED)) as connection:
        await connection.send_head(GET)
        with pytest.raises(StreamingDialFailed, match="malformed"):
            await connection.response_head()


async def test_a_reset_after_the_101_is_no_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED)
        await peer.receive()
        peer.reset()

    async with dialled(script) as connection:
        await connection.send_head(UPGRADE)
        await connection.response_head()
        await connection.write(b"go")
        with pytest.raises(IncompleteAnswer, match="connection reset by peer"):
            await connection.read()


def filled(server: socket.socket) -> int:
    """How many bytes the kernel takes of a server whose client reads nothing."""
    server.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += server.send(bytes(READ_SIZE))
    return sent


async def connected() -> tuple[BackendConnection, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = await BackendConnection.dial(*listener.getsockname(), deadline=LIMIT)
        return connection, listener.accept()[0]


async def test_a_reset_is_told_behind_the_output_that_was_taken_in() -> None:
    connection, server = await connected()
    async with asyncio.timeout(LIMIT):
        with closing(connection):
            server.send(b"output")
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
            connection.secure_output()
            assert await connection.read() == b"output"
            for _ in range(2):
                with pytest.raises(IncompleteAnswer, match="reset by peer"):
                    await connection.read()


async def test_what_is_taken_in_has_a_bound() -> None:
    connection, server = await connected()
    sent = 0
    with closing(connection), server:
        for _ in range(20):
            sent += filled(server)
            assert connection.secure_output()
        assert MOST_AHEAD < sent < 4 * MOST_AHEAD
        assert not filled(server)
        server.close()
        assert not connection.secure_output()


async def test_a_server_that_closes_with_input_unread_costs_no_output() -> None:
    connection, server = await connected()
    received = 0

    async def read_on() -> None:
        nonlocal received
        while data := await connection.read():
            received += len(data)

    async with asyncio.timeout(LIMIT):
        with closing(connection):
            sent = filled(server)
            assert connection.secure_output()
            await connection.write(b"input")
            server.close()
            with pytest.raises(IncompleteAnswer, match="reset by peer"):
                await read_on()
    assert received == sent
