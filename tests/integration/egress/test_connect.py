"""API servers that come by HTTP CONNECT, over a unix socket and over TLS."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from cloudstream.config import CloudSettings, EgressSettings
from cloudstream.egress.server import EgressServer
from edgestream.kubelet.exchange import Exchange
from streamkit.errors import PortInUse
from streamkit.wire.exchange import ResponseHead
from tests.support.admin import admin_of
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.egress_client import DEADLINE, ProxyError, connect, kubelet_client
from tests.support.wait import until

LOGS = "/containerLogs/default/web/app"
EXEC = "/exec/default/web/app?command=cat&input=1&output=1"
PORT = 10350
SIZE = 3_000_000
each_way = pytest.mark.parametrize("way", ["socket", "port"])


async def serve(exchange: Exchange) -> None:
    """Many bytes as the log; an upgraded stream is an echo."""
    if not exchange.request.is_upgrade:
        await exchange.send_head(ResponseHead(200))
        for _ in range(30):
            await exchange.write(bytes(SIZE // 30))
        return
    upgrade = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
    await exchange.send_head(ResponseHead(101, upgrade))
    while data := await exchange.read():
        await exchange.write(data)


@dataclass
class Egress:
    """A cloud service with both ways in."""

    cloud: Cloud
    socket: Path

    @property
    def server(self) -> EgressServer:
        assert self.cloud.service.egress
        return self.cloud.service.egress

    def proxy(self, way: str) -> Path | int:
        return self.socket if way == "socket" else self.server.listener.port

    def outer(self, way: str) -> ssl.SSLContext | None:
        return self.cloud.client_context("apiserver-client") if way == "port" else None

    def inner(self) -> ssl.SSLContext:
        context = self.cloud.client_context("apiserver-client")
        context.check_hostname = False
        return context


@pytest.fixture
async def egress(tmp_path: Path) -> AsyncIterator[Egress]:
    path = tmp_path / "egress.sock"
    settings = CloudSettings(
        bind_address="127.0.0.1",
        egress=EgressSettings(
            socket=str(path), address="127.0.0.1:0", relay_to=("127.0.0.0/8", "::1/128")
        ),
    )
    async with running_cloud(tmp_path / "pki", settings, has_admin=True) as cloud:
        yield Egress(cloud, path)


@each_way
@pytest.mark.parametrize(
    ("node_ip", "destination"),
    [
        ("10.2.4.15", f"10.2.4.15:{PORT}"),
        ("10.2.4.15", "10.2.4.15:10250"),
        ("fd00::15", f"[fd00::15]:{PORT}"),
        ("fd00::15", f"[FD00:0::15]:{PORT}"),
        ("10.2.4.15", f"{NODE}:{PORT}"),
    ],
)
async def test_logs_and_exec_of_an_edge_node(
    egress: Egress, way: str, node_ip: str, destination: str
) -> None:
    async with connected_edge(egress.cloud, serve, node_ip=node_ip):
        client = await kubelet_client(
            egress.proxy(way), destination, inner=egress.inner(), outer=egress.outer(way)
        )
        for _ in range(2):  # on one connection, as an API server keeps it
            answer = await client.get(LOGS)
            assert (answer.status, len(answer.body), answer.is_complete) == (200, SIZE, True)
        assert (await client.upgrade(EXEC, early=b"early")).status == 101
        assert await client.receive(5) == b"early"
        sent = bytes(range(256)) * 4096
        client.writer.write(sent)
        assert await client.receive(len(sent)) == sent
        client.abort()
        metrics = await admin_of(egress.cloud).metrics()
        assert metrics['cloudstream_egress_connects_total{outcome="edge"}'] == 1
        await until(lambda: not egress.server.live)


@each_way
async def test_a_node_that_is_not_connected_is_told_by_the_stream_server(
    egress: Egress, way: str
) -> None:
    client = await kubelet_client(
        egress.proxy(way), f"10.2.4.99:{PORT}", inner=egress.inner(), outer=egress.outer(way)
    )
    answer = await client.get(LOGS)
    assert answer.status == 500
    assert b"no connected edge node has the address 10.2.4.99" in answer.body
    client.abort()


@each_way
async def test_other_destinations_are_relayed_where_that_is_allowed(
    egress: Egress, way: str
) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"the end")
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for destination in (f"127.0.0.1:{port}", f"localhost:{port}"):
            reader, writer = await connect(egress.proxy(way), destination, outer=egress.outer(way))
            sent = bytes(SIZE)
            writer.write(sent)
            async with asyncio.timeout(DEADLINE):
                assert await reader.readexactly(SIZE) == sent
                if writer.can_write_eof():
                    writer.write_eof()
                    assert await reader.read() == b"the end"
            writer.close()
    metrics = await admin_of(egress.cloud).metrics()
    assert metrics['cloudstream_egress_connects_total{outcome="relayed"}'] == 2


@each_way
async def test_a_slow_reader_stops_its_source_and_a_break_is_passed_on(
    egress: Egress, way: str
) -> None:
    sent = 0
    is_over = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readexactly(1)
        with contextlib.suppress(OSError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
        is_over.set()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outer = egress.outer(way)
        _, writer = await connect(egress.proxy(way), f"127.0.0.1:{port}", outer=outer)
        cast(asyncio.Transport, writer.transport).pause_reading()
        writer.write(b"?")
        await until(lambda: sent > 0)
        seen = -1
        while seen != sent:  # until nothing more is taken for a while
            seen = sent
            await asyncio.sleep(0.3)
        assert sent < 64 << 20
        writer.transport.abort()
        async with asyncio.timeout(DEADLINE):
            await is_over.wait()
        await until(lambda: not egress.server.live)


@each_way
@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ("10.96.0.1:443", "403 10.96.0.1 is no connected edge node, and egress.relayTo does not"),
        ("169.254.169.254:80", "403 169.254.169.254 is no connected edge node"),
        ("10.2.4.15:22", "403 of the edge node 10.2.4.15 only its kubelet port can be reached"),
        ("127.0.0.1:1", "502 127.0.0.1, port 1, can't be reached: Connection refused"),
        ("no-such-name.invalid:443", "502 no-such-name.invalid can't be resolved"),
        ("10.2.4.15", "400 the target should be host:port"),
        ("fd00::15:10350", "400 the target should be host:port"),
    ],
)
async def test_what_leads_nowhere_is_refused_with_a_sentence(
    egress: Egress, way: str, destination: str, words: str
) -> None:
    async with connected_edge(egress.cloud, serve, node_ip="10.2.4.15"):
        with pytest.raises(ProxyError) as refused:
            await connect(egress.proxy(way), destination, outer=egress.outer(way))
        assert f"code {words}" in str(refused.value)


async def test_the_port_is_for_api_servers_only(egress: Egress) -> None:
    for stem in (f"edge-{NODE}", None):
        outer = egress.cloud.client_context(stem)
        with pytest.raises((ProxyError, OSError, asyncio.IncompleteReadError)) as refused:
            await connect(egress.proxy("port"), f"10.2.4.15:{PORT}", outer=outer)
        if stem:
            words = f'403 the client certificate of "system:node:{NODE}" may not call'
            assert words in str(refused.value)


async def test_the_stream_server_still_asks_who_calls(egress: Egress) -> None:
    context = egress.cloud.client_context(None)
    context.check_hostname = False
    client = await kubelet_client(egress.socket, f"10.2.4.15:{PORT}", inner=context)
    assert (await client.get(LOGS)).status == 401
    client.abort()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\nearly", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: " + b"x" * 20_000, b"431"),
    ],
)
async def test_what_is_no_connect_is_refused(
    egress: Egress, request_bytes: bytes, status: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(egress.socket)
    writer.write(request_bytes)
    async with asyncio.timeout(DEADLINE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 " + status)
        await reader.read()
    writer.close()


async def test_a_socket_that_is_left_over_is_replaced_and_one_in_use_is_not(
    egress: Egress, tmp_path: Path
) -> None:
    settings = CloudSettings(
        bind_address="127.0.0.1", egress=EgressSettings(socket=str(egress.socket))
    )
    with pytest.raises(PortInUse, match="Address already in use"):
        async with running_cloud(tmp_path / "other", settings):
            pass
    # asyncio forgets a connection that it accepts while its server closes: let it take the probe's.
    assert await admin_of(egress.cloud).get("/livez") == (200, "ok")
    egress.cloud.task.cancel()
    await asyncio.wait([egress.cloud.task], timeout=10)
    assert not egress.socket.exists()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(egress.socket))
    assert egress.socket.is_socket()
    async with running_cloud(tmp_path / "other", settings) as cloud:
        client = await kubelet_client(
            egress.socket, f"10.2.4.15:{PORT}", inner=Egress(cloud, egress.socket).inner()
        )
        assert (await client.get("/pods")).status == 404
        client.abort()
