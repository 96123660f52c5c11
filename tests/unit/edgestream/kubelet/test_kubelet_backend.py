import asyncio

import pytest

from edgestream.kubelet.kubelet_backend import KubeletBackend
from edgestream.kubelet.serve import answer
from streamkit.errors import IncompleteAnswer
from streamkit.wire.exchange import RequestHead, ResponseHead
from tests.support.exchange import MemoryExchange, ask
from tests.support.http_server import SWITCHED, Peer, Script, free_port, scripted_server

LIMIT = 10.0


async def ask_through(script: Script, request: RequestHead) -> tuple[ResponseHead, bytes]:
    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        return await ask(KubeletBackend("127.0.0.1", server.port, dial_deadline=LIMIT), request)


async def test_a_plain_request_and_its_answer() -> None:
    heads: list[list[str]] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.receive_head())
        await peer.send(
            b"HTTP/1.1 200 OK\r\nDate: today\r\nKeep-Alive: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nline\r\n1\r\n\n\r\n0\r\n\r\n"
        )

    headers = (("Host", "node"), ("Accept", "a"), ("Accept", "b"), ("Connection", "keep-alive"))
    request = RequestHead("GET", "/containerLogs/ns/p/c?follow=true", headers)
    head, body = await ask_through(script, request)
    assert head == ResponseHead(200, (("Date", "today"),), "OK")
    assert body == b"line\n"
    request_line, host, *lines = heads[0]
    assert request_line == "GET /containerLogs/ns/p/c?follow=true HTTP/1.1"
    assert host.startswith("Host: 127.0.0.1:")
    assert lines == ["Accept: a", "Accept: b", "Connection: close"]


async def test_errors_of_the_kubelet_are_its_own() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nno pod")

    head, body = await ask_through(script, RequestHead("GET", "/x"))
    assert (head.status, body) == (404, b"no pod")
    assert head.headers == (("Content-Length", "6"),)


async def test_the_head_comes_before_the_first_byte() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert await peer.receive() == b""

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(RequestHead("GET", "/containerLogs/ns/p/c?follow=true"))
        backend = KubeletBackend("127.0.0.1", server.port, dial_deadline=LIMIT)
        serving = asyncio.create_task(answer(backend, exchange))
        assert (await exchange.head()).status == 200
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await server.finished.wait()


@pytest.mark.parametrize(
    ("header", "on_the_wire"),
    [
        (("Content-Length", "8"), b"cmd=ls&x"),
        (("Transfer-Encoding", "chunked"), b"8\r\ncmd=ls&x\r\n0\r\n\r\n"),
    ],
)
async def test_request_bodies_are_put_too(header: tuple[str, str], on_the_wire: bytes) -> None:
    async def script(peer: Peer) -> None:
        assert f"{header[0]}: {header[1]}" in await peer.receive_head()
        assert await peer.receive_exactly(len(on_the_wire)) == on_the_wire
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(RequestHead("POST", "/run/ns/p/c", (header,)))
        backend = KubeletBackend("127.0.0.1", server.port, dial_deadline=LIMIT)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer(backend, exchange))
            await exchange.send(b"cmd=ls&x")
            await exchange.send_eof()
            assert await exchange.receive_all() == b"done"


async def test_a_body_shorter_than_announced_is_told_to_the_kubelet() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        assert await peer.receive_all() == b"half"
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(RequestHead("POST", "/run", (("Content-Length", "8"),)))
        backend = KubeletBackend("127.0.0.1", server.port, dial_deadline=LIMIT)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer(backend, exchange))
            await exchange.send(b"half")
            await exchange.send_eof()
            assert (await exchange.head()).status == 400


async def test_upgrades_are_raw() -> None:
    async def script(peer: Peer) -> None:
        head = await peer.receive_head()
        assert head[0] == "POST /exec/ns/p/c?command=cat HTTP/1.1"
        assert head[2:] == ["X-Stream-Protocol-Version: v4", "connection: Upgrade", "Upgrade: x"]
        await peer.send(SWITCHED + b"5\r\n")
        await peer.send(await peer.receive_all())

    headers = (
        ("Content-Length", "0"),
        ("connection", "Upgrade"),
        ("X-Stream-Protocol-Version", "v4"),
        ("EdgeStream-Pod", "for the edge alone"),
        ("Upgrade", "x"),
    )
    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(RequestHead("POST", "/exec/ns/p/c?command=cat", headers))
        backend = KubeletBackend("127.0.0.1", server.port, dial_deadline=LIMIT)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer(backend, exchange))
            head = await exchange.head()
            await exchange.send(b"\x00raw")
            await exchange.send_eof()
            assert await exchange.receive_all() == b"5\r\n\x00raw"
    assert head.status == 101
    assert ("Upgrade", "SPDY/3.1") in head.headers


@pytest.mark.parametrize(
    "cut", [b"Content-Length: 9\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
async def test_an_answer_that_breaks_off_is_no_end(cut: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + cut)

    async with asyncio.timeout(LIMIT), scripted_server(script) as server:
        exchange = MemoryExchange(RequestHead("GET", "/metrics"))
        backend = KubeletBackend("127.0.0.1", server.port, dial_deadline=LIMIT)
        with pytest.raises(IncompleteAnswer):
            await answer(backend, exchange)
        assert await exchange.receive() == b"half"


async def test_nobody_listens() -> None:
    port = free_port()
    backend = KubeletBackend("127.0.0.1", port, dial_deadline=LIMIT)
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead("GET", "/pods"))
        await backend.close()
    assert head.status == 500
    assert body.decode() == (
        f"the kubelet on 127.0.0.1:{port} can't be reached:"
        f" dial tcp 127.0.0.1:{port}: connect: connection refused"
    )


async def test_the_kubelet_leaves_without_an_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()

    head, body = await ask_through(script, RequestHead("GET", "/pods"))
    assert head.status == 500
    assert body.endswith(b" gave no answer: unexpected EOF")


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest", "169.254.169.254:80", "*", "", "/pods HTTP/1.1"]
)
async def test_only_paths_are_put_and_only_to_the_kubelet(target: str) -> None:
    asked: list[list[str]] = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.receive_head())

    head, _ = await ask_through(script, RequestHead("GET", target))
    assert head.status == 400
    assert not asked
