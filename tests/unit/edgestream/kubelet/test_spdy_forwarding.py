"""Connections over SPDY, with servers of all kinds at their other ends."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from unittest import mock

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.spdy_forwarding import MAX_HELD, SpdyForwarding, accept_spdy
from edgestream.spdy.frames import Status
from streamkit.errors import BadRequest
from streamkit.wire.exchange import RequestHead, ResponseHead
from tests.support.exchange import MemoryExchange
from tests.support.http_server import Peer, Script, free_port, scripted_server
from tests.support.spdy_client import SpdyClient, receiving
from tests.unit.edgestream.kubelet.local_ports import LocalPorts

UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
VERSION = ("X-Stream-Protocol-Version", "portforward.k8s.io")
REQUEST = RequestHead("POST", "/portForward/ns/p", (*UPGRADE, VERSION))
LIMIT = 20.0
MUCH = 5_000_000
PIECE = 30_000
KERNEL_HOLDS = 20_000_000
"""Bytes, more than the buffers of a connection may grow to."""


@asynccontextmanager
async def forwarding(*, ends: bool = True) -> AsyncIterator[SpdyClient]:
    """A client of the ports of this host, who leaves at the end of the block, or is lost there."""
    exchange = MemoryExchange(REQUEST)
    await exchange.send_head(accept_spdy(REQUEST))

    async def serve() -> None:
        await SpdyForwarding(exchange, LocalPorts()).run()
        await exchange.end()

    serving = asyncio.create_task(serve())
    async with asyncio.timeout(LIMIT), receiving(exchange) as client:
        yield client
        if ends:
            await exchange.send_eof()
            await serving
        else:
            serving.cancel()
            await asyncio.wait([serving])


async def echo(peer: Peer) -> None:
    while data := await peer.receive():
        await peer.send(data)


async def answer_at_the_end(peer: Peer) -> None:
    received = await peer.receive_all()
    await peer.send(received[::-1])


async def end_and_listen(peer: Peer) -> None:
    await peer.send(b"hello")
    peer.send_eof()
    assert await peer.receive_all() == b"still there"


@pytest.mark.parametrize("script", [echo, answer_at_the_end])
async def test_a_client_that_ends_first_gets_all(script: Script) -> None:
    sent = os.urandom(MUCH)
    async with scripted_server(script) as server, forwarding() as client:
        errors, data = await client.connect(server.port)
        for begin in range(0, MUCH, PIECE):
            await client.send(data, sent[begin : begin + PIECE])
        await client.send(data, is_last=True)
        await client.until(lambda: {errors, data} <= set(client.ended))
    assert client.data[data] == (sent if script is echo else sent[::-1])
    assert not client.data[errors]


async def test_a_server_that_ends_first_is_heard_and_goes_on_to_hear() -> None:
    async with scripted_server(end_and_listen) as server, forwarding() as client:
        errors, data = await client.connect(server.port)
        await client.until(lambda: data in client.ended)
        assert errors not in client.ended
        await client.send(data, b"still there", is_last=True)
        await client.until(lambda: errors in client.ended)
        await server.finished.wait()
    assert client.data[data] == b"hello"


async def test_a_silent_client_of_a_server_that_ended_is_told_that_all_went_well() -> None:
    with mock.patch("edgestream.kubelet.forwarding.LAST_WORDS", 0.2):
        async with scripted_server(end_and_listen) as server, forwarding() as client:
            errors, data = await client.connect(server.port)
            await client.until(lambda: {errors, data} <= set(client.ended))
            await client.send(data, b"still there", is_last=True)
            await server.finished.wait()


async def test_what_nobody_can_hear_is_waited_for_by_nobody() -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.send(b"bye")

    with mock.patch("edgestream.kubelet.forwarding.LAST_WORDS", LIMIT):
        async with scripted_server(hang_up) as server, forwarding() as client:
            errors, data = await client.connect(server.port)
            await client.until(lambda: {errors, data} <= set(client.ended))
            await client.send(data, b"nobody there")
    assert client.data[data] == b"bye"
    assert not client.data[errors]


async def test_a_server_that_closes_while_its_answer_waits_is_heard_to_the_end() -> None:
    async def answer_early(peer: Peer) -> None:
        await peer.send(bytes(MUCH))

    async with scripted_server(answer_early) as server, forwarding() as client:
        errors, data = await client.connect(server.port)
        await client.send(data, bytes(PIECE))
        await client.until(lambda: {errors, data} <= set(client.ended))
    assert len(client.data[data]) == MUCH
    assert not client.data[errors]


async def test_a_server_that_breaks_off_is_told_of() -> None:
    async def break_off(peer: Peer) -> None:
        await peer.send(b"part")
        await peer.receive()
        peer.reset()

    async with scripted_server(break_off) as server, forwarding() as client:
        errors, data = await client.connect(server.port)
        await client.until(lambda: client.data[data] == b"part")
        await client.send(data, b"x")
        await client.until(lambda: {errors, data} <= set(client.ended))
    told = client.data[errors].decode()
    begin = f'port {server.port}: failed to execute portforward in network namespace "host": read '
    assert told.startswith(f"{begin}tcp4 127.0.0.1:")
    assert told.endswith(f"->127.0.0.1:{server.port}: read: connection reset by peer")


async def test_a_port_that_nobody_listens_on() -> None:
    port = free_port()
    async with forwarding() as client:
        errors, data = await client.connect(port)
        await client.until(lambda: {errors, data} <= set(client.ended))
    assert client.data[errors].decode() == f"port {port}: refused"


async def test_a_reset_closes_the_connection_at_once() -> None:
    async with scripted_server(echo) as server, forwarding() as client:
        errors, data = await client.connect(server.port)
        await client.send(data, b"x")
        await client.until(lambda: client.data[data] == b"x")
        await client.reset(data)
        await server.finished.wait()
        await client.until(lambda: errors in client.ended)
        assert client.data[errors] == b""
        again = await client.connect(server.port, 1)
        await client.send(again[1], b"fine", is_last=True)
        await client.until(lambda: set(again) <= set(client.ended))


async def test_a_caller_who_leaves_drops_all_connections() -> None:
    async def greet(peer: Peer) -> None:
        await peer.send(b"hello")
        await peer.receive_all()

    files = len(os.listdir("/proc/self/fd"))
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(scripted_server(greet)) for _ in range(3)]
        async with forwarding() as client:
            for number, server in enumerate(servers):
                await client.connect(server.port, number)
            await client.until(lambda: list(client.data.values()) == [b"hello"] * len(servers))
        for server in servers:
            await server.finished.wait()
    assert len(os.listdir("/proc/self/fd")) == files


async def test_many_at_once() -> None:
    async with scripted_server(echo) as server, forwarding() as client:
        pairs = [await client.connect(server.port, number) for number in range(100)]
        for _, data in pairs:
            await client.send(data, b"%d" % data * 1000, is_last=True)
        await client.until(lambda: len(client.ended) == 2 * len(pairs))
    assert all(client.data[data] == b"%d" % data * 1000 for _, data in pairs)


async def test_what_a_server_does_not_read_is_bounded() -> None:
    async def never_read(peer: Peer) -> None:
        await asyncio.Event().wait()

    async with scripted_server(never_read) as server, forwarding(ends=False) as client:
        _, data = await client.connect(server.port)
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while True:
                await client.send(data, bytes(PIECE))
                sent += PIECE

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fill(), 2)
        assert MAX_HELD < sent < MAX_HELD + KERNEL_HOLDS


async def test_streams_that_can_not_be_served() -> None:
    async with forwarding() as client:
        bad = [
            await client.open(streamtype="data"),
            await client.open(streamtype="data", port="0"),
            await client.open(streamtype="data", port="65536"),
            await client.open(streamtype="data", port="http"),
            await client.open(streamtype="tea", port="80"),
            await client.open(port="80"),
        ]
        await client.until(lambda: len(client.resets) == len(bad))
    assert client.resets == [(stream_id, Status.CANCEL) for stream_id in bad]


async def test_a_second_stream_of_a_kind() -> None:
    async with forwarding() as client:
        first = await client.open(streamtype="error", port="80", requestid="7")
        second = await client.open(streamtype="error", port="80", requestid="7")
        await client.until(lambda: bool(client.data[first]))
    assert client.resets == [(second, Status.CANCEL)]
    told = b"error processing stream for request 7: error stream already assigned"
    assert client.data[first] == told


async def test_a_stream_without_its_fellow() -> None:
    with mock.patch("edgestream.kubelet.spdy_forwarding.STREAMS_DEADLINE", 0.05):
        async with forwarding() as client:
            errors = await client.open(streamtype="error", port="80", requestid="7")
            data = await client.open(streamtype="data", port="80", requestid="8")
            await client.until(lambda: {errors, data} <= set(client.ended))
    assert client.data[errors] == b"(request=7) timed out waiting for streams"


async def test_a_stream_that_is_given_up_before_its_fellow_comes_leaves_nothing() -> None:
    async with scripted_server(echo) as server, forwarding() as client:
        port = str(server.port)
        for _ in range(2 * MAX_HELD // PIECE):
            data = await client.open(streamtype="data", port=port, requestid="7")
            await client.send(data, bytes(PIECE))
            await client.reset(data)
        errors, data = await client.connect(server.port, 7)
        await client.send(data, b"fine", is_last=True)
        await client.until(lambda: {errors, data} <= set(client.ended))
    assert client.data[data] == b"fine"


async def test_old_clients_open_one_stream_after_the_other() -> None:
    async with scripted_server(echo) as server, forwarding() as client:
        errors = await client.open(streamtype="error", port=str(server.port))
        data = await client.open(streamtype="data", port=str(server.port))
        await client.send(data, b"fine", is_last=True)
        await client.until(lambda: {errors, data} <= set(client.ended))
    assert client.data[data] == b"fine"


async def test_there_is_a_limit_to_connections() -> None:
    with mock.patch("edgestream.kubelet.spdy_forwarding.MAX_CONNECTIONS", 2):
        async with scripted_server(echo) as server, forwarding() as client:
            await client.connect(server.port, 0)
            await client.connect(server.port, 1)
            refused = await client.open(streamtype="error", port="80", requestid="2")
            await client.until(lambda: bool(client.resets))
    assert client.resets == [(refused, Status.REFUSED_STREAM)]


async def test_pings_are_answered_while_a_client_listens() -> None:
    async with forwarding() as client:
        await client.ping(1)
        await client.ping(3)
        await client.until(lambda: client.pings == [1, 3])


async def test_a_client_that_says_it_will_leave_is_closed() -> None:
    async with forwarding() as client:
        await client.go_away()
        await client.until(lambda: client.is_closed)


async def test_a_client_that_can_not_be_understood_is_told_so() -> None:
    exchange = MemoryExchange(REQUEST)
    await exchange.send_head(accept_spdy(REQUEST))
    await exchange.send(bytes.fromhex("80020001 00000000"))
    async with asyncio.timeout(LIMIT), receiving(exchange) as client:
        with pytest.raises(BadRequest):
            await SpdyForwarding(exchange, LocalPorts()).run()
        await client.until(lambda: client.has_gone)


def test_a_client_that_is_accepted() -> None:
    assert accept_spdy(REQUEST) == ResponseHead(101, (*UPGRADE, VERSION))
    offers = (VERSION[0], "a.k8s.io, portforward.k8s.io")
    assert accept_spdy(RequestHead("GET", "/", (*UPGRADE, offers))).status == 101


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        (UPGRADE, 400, "unable to upgrade: X-Stream-Protocol-Version is required\n"),
        (
            (*UPGRADE, (VERSION[0], "a"), (VERSION[0], "b.k8s.io")),
            403,
            (
                "unable to upgrade: unable to negotiate protocol: client supports [a b.k8s.io],"
                " server accepts [portforward.k8s.io]\n"
            ),
        ),
        (
            (("Connection", "Upgrade"), ("Upgrade", "tea/1.0"), VERSION),
            400,
            "unable to upgrade: missing upgrade headers in request\n",
        ),
    ],
)
def test_clients_that_are_refused(
    headers: tuple[tuple[str, str], ...], status: int, body: str
) -> None:
    with pytest.raises(KubeletAnswer) as refusal:
        accept_spdy(RequestHead("POST", "/portForward/ns/p", headers))
    assert (refusal.value.status, refusal.value.body) == (status, body)
