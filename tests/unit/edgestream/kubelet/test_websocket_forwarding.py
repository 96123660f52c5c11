"""Connections over a WebSocket, with servers of all kinds at their other ends."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest import mock

import pytest
from websockets.frames import Opcode

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.websocket_forwarding import WebSocketForwarding, accept_websocket
from streamkit.wire.exchange import RequestHead, ResponseHead
from tests.support.channels import BASE64, BINARY, ChannelClient
from tests.support.http_server import Peer, free_port, scripted_server
from tests.unit.edgestream.kubelet.local_ports import LocalPorts

LIMIT = 20.0
MUCH = 3_000_000
PIECE = 30_000
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3, as its answer below
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "websocket"))
WEBSOCKET = (*UPGRADE, ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY))
ACCEPTED = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
)


@asynccontextmanager
async def forwarding(*ports: int, protocol: str = BINARY) -> AsyncIterator[ChannelClient]:
    """A client of those ports of this host, who leaves at the end of the block."""
    client = ChannelClient("/portForward/ns/p", protocol=protocol)
    exchange = client.exchange

    async def serve() -> None:
        await exchange.send_head(accept_websocket(exchange.request))
        await WebSocketForwarding(exchange, LocalPorts(), ports).run()
        await exchange.end()

    async with asyncio.timeout(LIMIT):
        serving = asyncio.create_task(serve())
        yield await client.connect()
        await exchange.send_eof()
        await serving


def announced(port: int) -> bytes:
    return port.to_bytes(2, "little")


@pytest.mark.parametrize("protocol", [BINARY, BASE64])
async def test_much_goes_both_ways(protocol: str) -> None:
    async def echo(peer: Peer) -> None:
        await peer.send(await peer.receive_exactly(MUCH))

    sent = os.urandom(MUCH)
    async with scripted_server(echo) as server, forwarding(server.port, protocol=protocol) as ws:
        for begin in range(0, MUCH, PIECE):
            await ws.send(0, sent[begin : begin + PIECE])
        received = await ws.receive_all()
    assert received[0] == announced(server.port) + sent
    assert received[1] == announced(server.port)


async def test_all_ports_at_once() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send((await peer.receive())[::-1])

    unused = free_port()
    async with (
        scripted_server(answer) as one,
        scripted_server(answer) as two,
        forwarding(one.port, unused, two.port) as ws,
    ):
        await ws.receive_until(3, b"refused")
        await ws.send(0, b"one")
        await ws.receive_until(0, b"eno")
        await ws.send(4, b"two")
        received = await ws.receive_all()
    assert received == {
        0: announced(one.port) + b"eno",
        1: announced(one.port),
        2: announced(unused),
        3: announced(unused) + f"port {unused}: refused".encode(),
        4: announced(two.port) + b"owt",
        5: announced(two.port),
    }
    (last,) = ws.others
    assert (last.opcode, last.data) == (Opcode.CLOSE, b"\x03\xe8")


async def test_a_server_that_ends_first_hears_the_last_words() -> None:
    async def end_and_listen(peer: Peer) -> None:
        await peer.send(b"hello")
        peer.send_eof()
        assert await peer.receive_exactly(5) == b"still"

    with mock.patch("edgestream.kubelet.forwarding.LAST_WORDS", LIMIT):
        async with scripted_server(end_and_listen) as server, forwarding(server.port) as ws:
            await ws.receive_until(0, b"hello")
            await ws.send(0, b"still")
            await ws.receive_all()


async def test_a_client_who_closes_drops_all_connections() -> None:
    async def listen(peer: Peer) -> None:
        await peer.send(b"hello")
        await peer.receive_all()

    async with scripted_server(listen) as server, forwarding(server.port) as ws:
        await ws.receive_until(0, b"hello")
        ws.protocol.send_close(1000)
        await ws.flush()
        await ws.receive_all()
        await server.finished.wait()
    assert [each.opcode for each in ws.others] == [Opcode.CLOSE]


async def test_pings_fragments_and_messages_of_no_channel() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(await peer.receive_exactly(6))

    async with scripted_server(answer) as server, forwarding(server.port) as ws:
        await ws.send(9, b"no such channel")
        await ws.send(1, b"nothing is read here")
        await ws.send(0, b"")
        ws.protocol.send_binary(b"")
        ws.protocol.send_ping(b"hi")
        ws.protocol.send_binary(b"\0abc", fin=False)
        ws.protocol.send_continuation(b"def", fin=True)
        await ws.flush()
        received = await ws.receive_all()
    assert received[0] == announced(server.port) + b"abcdef"
    assert [each.opcode for each in ws.others] == [Opcode.PONG, Opcode.CLOSE]


async def test_broken_base64_ends_all() -> None:
    async def listen(peer: Peer) -> None:
        await peer.receive_all()

    async with (
        scripted_server(listen) as server,
        forwarding(server.port, protocol=BASE64) as ws,
    ):
        ws.protocol.send_text(b"0###")
        await ws.flush()
        await ws.receive_all()
    (last,) = ws.others
    assert last.data[:2] == (1007).to_bytes(2)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((), ()),
        (("v4.channel.k8s.io",), (BINARY,)),
        (("tea", f"{BASE64}, {BINARY}"), (BASE64,)),
    ],
)
def test_clients_that_are_accepted(offered: tuple[str, ...], chosen: tuple[str, ...]) -> None:
    lines = tuple(("Sec-WebSocket-Protocol", each) for each in offered)
    answer = tuple(("Sec-WebSocket-Protocol", each) for each in chosen)
    request = RequestHead("GET", "/portForward/ns/p", (*WEBSOCKET, *lines))
    assert accept_websocket(request) == ResponseHead(101, (*ACCEPTED, *answer))


@pytest.mark.parametrize(
    ("method", "headers", "status", "body"),
    [
        ("POST", WEBSOCKET, 405, "bad method"),
        ("GET", UPGRADE, 400, "missing or bad WebSocket Version"),
        ("GET", WEBSOCKET[:3], 400, "mismatch challenge/response"),
        ("GET", (*WEBSOCKET, ("Sec-WebSocket-Protocol", "channel.k8s.io")), 403, ""),
        ("GET", (*WEBSOCKET, ("Sec-WebSocket-Protocol", "SPDY/3.1+portforward.k8s.io")), 403, ""),
    ],
)
def test_clients_that_are_refused(
    method: str, headers: tuple[tuple[str, str], ...], status: int, body: str
) -> None:
    with pytest.raises(KubeletAnswer) as refusal:
        accept_websocket(RequestHead(method, "/portForward/ns/p", headers))
    assert (refusal.value.status, refusal.value.body) == (status, body)
