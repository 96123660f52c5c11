import asyncio

import pytest

from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.runtime_stream import stream
from edgestream.kubelet.serve import answer
from streamkit.errors import ChannelReset, IncompleteAnswer
from streamkit.wire.exchange import RequestHead, ResponseHead
from tests.support.exchange import MemoryExchange, ask
from tests.support.http_server import SWITCHED, Peer, Script, free_port, scripted_server

LIMIT = 10.0
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
REQUEST = RequestHead("POST", "/exec/ns/p/c?command=id&output=1", UPGRADE)
MANY = 32 << 20
"""Bytes that fit into no buffers of a connection on the loopback."""
SPOKEN = 1 << 20
"""Bytes that do fit there."""
TURNS = 500
"""Echoes that take long enough for a relay that does not stop to move that many bytes."""


class Streaming:
    """A handler that streams from one URL, whatever is asked."""

    def __init__(self, url: str, *, dial_deadline: float = LIMIT) -> None:
        self._url = url
        self._dial_deadline = dial_deadline

    async def serve(self, exchange: Exchange) -> None:
        await stream(exchange, self._url, dial_deadline=self._dial_deadline)

    async def close(self) -> None:
        raise NotImplementedError


async def ask_through(script: Script, request: RequestHead = REQUEST) -> tuple[ResponseHead, bytes]:
    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        return await ask(Streaming(server.url), request)


async def echo(peer: Peer) -> None:
    await peer.receive_head()
    await peer.send(SWITCHED)
    while data := await peer.receive():
        await peer.send(data)


async def use_another_stream() -> None:
    """Many round trips through a stream of its own, all of which have to get through."""
    async with scripted_server(echo) as server:
        exchange = MemoryExchange(REQUEST)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer(Streaming(server.url), exchange))
            for _ in range(TURNS):
                await exchange.send(b"x")
                assert await exchange.receive() == b"x"
            await exchange.send_eof()


async def test_the_request_is_put_line_by_line_to_the_url_of_the_runtime() -> None:
    heads: list[list[str]] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.receive_head())
        await peer.send(SWITCHED)

    headers = (
        ("Host", "apiserver"),
        ("EdgeStream-Pod", "for the edge alone"),
        ("User-Agent", "kubectl"),
        ("Content-Length", "0"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
        ("X-Stream-Protocol-Version", "channel.k8s.io"),
        ("Sec-WebSocket-Key", "abc="),
        *UPGRADE,
    )
    request = RequestHead("POST", "/exec/ns/p/c?command=secret", headers)
    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        head, _ = await ask(Streaming(f"{server.url}?a=b"), request)
        assert head == ResponseHead(101, UPGRADE, "Switching Protocols")
    request_line, host, *lines = heads[0]
    assert request_line == "POST /exec/t0k3n?a=b HTTP/1.1"
    assert host == f"Host: 127.0.0.1:{server.port}"
    taken_off = ("Host", "Content-Length", "EdgeStream-Pod")
    kept = [line for line in headers if line[0] not in taken_off]
    assert lines == [f"{name}: {value}" for name, value in kept]


async def test_what_comes_with_the_101_is_delivered_before_the_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + b"first ")
        await peer.send(b"last")

    head, body = await ask_through(script)
    assert (head.status, body) == (101, b"first last")


async def test_half_closes_pass_in_both_directions() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED)
        await peer.send(b"got " + await peer.receive_all())

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(REQUEST)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer(Streaming(server.url), exchange))
            await exchange.send(b"every ")
            await exchange.send(b"byte")
            await exchange.send_eof()
            assert await exchange.receive_all() == b"got every byte"


async def test_the_end_of_the_runtime_ends_the_exchange_with_input_left() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + b"bye")

    head, body = await ask_through(script)  # the caller never half-closes
    assert (head.status, body) == (101, b"bye")


async def test_a_slow_caller_stops_the_runtime() -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.receive_head()
        await peer.send(SWITCHED)
        while sent < MANY:
            await peer.send(b"x" * 65536)
            sent += 65536

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(REQUEST)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer(Streaming(server.url), exchange))
            await exchange.head()
            await use_another_stream()
            assert sent < MANY
            assert exchange.held <= 2 * 65536
            assert len(await exchange.receive_all()) == MANY


async def test_unread_input_holds_up_nothing_else_and_cancelling_ends_it() -> None:
    typed = 0

    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + b"prompt")
        await asyncio.Event().wait()

    async def type_on(exchange: MemoryExchange) -> None:
        nonlocal typed
        while True:
            await exchange.send(b"y" * 65536)
            typed += 65536

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(REQUEST)
        serving = asyncio.create_task(answer(Streaming(server.url), exchange))
        typing = asyncio.create_task(type_on(exchange))
        assert await exchange.receive() == b"prompt"
        await use_another_stream()
        assert typed < MANY
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        typing.cancel()


async def test_cancelling_closes_the_connection_of_the_runtime() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + b"x")
        assert await peer.receive() == b""

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(REQUEST)
        serving = asyncio.create_task(answer(Streaming(server.url), exchange))
        assert await exchange.receive() == b"x"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await server.finished.wait()


async def test_a_reset_of_the_runtime_is_no_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + b"x")
        await peer.receive()
        peer.reset()

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(REQUEST)
        serving = asyncio.create_task(answer(Streaming(server.url), exchange))
        assert await exchange.receive() == b"x"
        await exchange.send(b"y")
        with pytest.raises(IncompleteAnswer):
            await serving


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nX-A: b\r\nContent-Length: 19\r\n\r\n404 page not found\n",
            404,
            b"404 page not found\n",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", 403, b""),
        (
            b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            400,
            b"no",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            500,
            b"invalid upgrade response: status code 302\n",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            500,
            b"invalid upgrade response: status code 200\n",
        ),
        (b"", 500, b"unexpected EOF\n"),
        (b"HTTP/1.1 101 Swi", 500, b"unexpected EOF\n"),
        (b"garbage\r\n\r\n", 500, b"malformed HTTP response\n"),
    ],
)
async def test_other_answers(reply: bytes, status: int, body: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(reply)

    head, got = await ask_through(script)
    assert (head.status, got) == (status, body)
    names = {name.lower() for name, _ in head.headers}
    assert "transfer-encoding" not in names
    assert (("X-A", "b") in head.headers) is (b"X-A" in reply)


async def test_a_reset_within_the_head() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 101")
        peer.reset()

    head, body = await ask_through(script)
    assert head.status == 500
    assert body.endswith(b": read: connection reset by peer\n")


async def test_a_refusal_that_breaks_off_is_no_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nshort")

    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(ask_through(script), LIMIT)
    assert caught.group_contains(IncompleteAnswer)


async def test_nobody_listens() -> None:
    port = free_port()
    async with asyncio.timeout(LIMIT):
        head, body = await ask(Streaming(f"http://127.0.0.1:{port}/exec/x"), REQUEST)
    assert head.status == 500
    assert ("X-Content-Type-Options", "nosniff") in head.headers
    refused = f"error dialing backend: dial tcp 127.0.0.1:{port}: connect: connection refused\n"
    assert body.decode() == refused


async def test_a_silent_server_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_all()

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        head, body = await ask(Streaming(server.url, dial_deadline=0.05), REQUEST)
        assert head.status == 500
        assert b"did not answer within 0.05 s" in body
        await server.finished.wait()


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/exec/x",
        "http://169.254.169.254:{port}/exec/x",
        "http://example.com:{port}/exec/x",
        "unix:///run/x.sock",
        "http://127.0.0.1:99999/exec/x",
        "/exec/x",
    ],
)
async def test_urls_that_lead_elsewhere_are_not_dialled(url: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_all()

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        head, body = await ask(Streaming(url.format(port=server.port)), REQUEST)
        assert server.connections == 0
    assert head.status == 500
    assert b"neither by plain HTTP nor on the loopback" in body


async def test_a_url_without_scheme_is_http() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED)

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        head, _ = await ask(Streaming(f"//localhost:{server.port}/exec/x"), REQUEST)
    assert head.status == 101


async def test_only_upgrades_are_streamed() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_all()

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        head, body = await ask(Streaming(server.url), RequestHead("GET", "/exec/ns/p/c"))
        assert (head.status, body) == (500, b"Upgrade request required\n")
        assert ("X-Content-Type-Options", "nosniff") in head.headers
        head, body = await ask(Streaming(""), REQUEST)
        assert (head.status, body) == (500, b"URL is not set")
        assert server.connections == 0


async def test_a_caller_that_is_gone_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    has_left = asyncio.Event()

    class Left(MemoryExchange):
        async def read(self) -> bytes:
            has_left.set()
            raise ChannelReset("the caller went away")

    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED)
        await has_left.wait()
        await peer.send(b"last words")

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = Left(REQUEST)
        await answer(Streaming(server.url), exchange)
        assert await exchange.receive_all() == b"last words"
    assert not caplog.records


async def test_a_ping_costs_no_output_of_a_server_that_has_closed() -> None:
    output = bytes(SPOKEN)
    frame = bytes.fromhex("80030001 00000002") + b"zz"
    ping = bytes.fromhex("80030006 00000004 00000001")

    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED)
        assert await peer.receive_exactly(len(frame + ping)) == frame + ping
        await peer.send(output)

    async with (
        asyncio.timeout(LIMIT),
        scripted_server(script) as server,
        asyncio.TaskGroup() as tasks,
    ):
        exchange = MemoryExchange(REQUEST)
        tasks.create_task(answer(Streaming(server.url), exchange))
        await exchange.send(frame + ping)
        await server.finished.wait()
        received = b""
        while piece := await exchange.receive():
            received += piece
            await exchange.send(ping)
    assert received == output
