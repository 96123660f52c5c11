"""A stock peer repeats itself without end: that costs neither a line in the log nor a channel.

A stock cloud sends RemoveConnects as fast as it can from the moment a caller has left until the
edge answers, and for ever where the edge has no such request. A stock edge repeats one too.
"""

import asyncio
import logging
import os
from pathlib import Path

import pytest

import edgestream.tunnel
from edgestream.kubelet.exchange import Exchange
from streamkit.errors import StreamingDialFailed
from streamkit.http.answer import LAST_CHUNK, encode_chunk
from streamkit.wire.exchange import ResponseHead
from tests.support.api_client import api_client
from tests.support.cloud import NODE, running_cloud
from tests.support.frames import PING, PONG
from tests.support.stock_cloud import DATA, EXEC, LOGS, REMOVE, StockTunnel, edge_of, stock_cloud
from tests.support.stock_edge import KubeletCall, stock_edge
from tests.support.wait import until

FLOOD = 20_000
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
RAW_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def serve(exchange: Exchange) -> None:
    if exchange.request.path == "/down":
        raise StreamingDialFailed("the kubelet can't be reached")
    await exchange.send_head(SWITCH)
    while data := await exchange.read():
        await exchange.write(data)


async def echoes(tunnel: StockTunnel) -> None:
    """Channel 1 still answers."""
    expected = tunnel.data(1) + (word := os.urandom(100))
    tunnel.send(1, DATA, word)
    await until(lambda: tunnel.data(1) == expected)


@pytest.mark.parametrize("library", ["picows", "websockets"])
@pytest.mark.parametrize("flooded", ["never opened", "refused", "left"])
async def test_an_edge_behind_a_cloud_that_floods(
    tmp_path: Path,
    flooded: str,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(edgestream.tunnel, "has_picows", lambda: library == "picows")
    async with (
        stock_cloud(tmp_path / "pki") as cloud,
        edge_of(cloud, serve, heartbeat=0.05) as (tunnel, kubelet),
    ):
        tunnel.open(1, EXEC, "/echoes")
        await until(lambda: tunnel.data(1) == RAW_SWITCH)
        if flooded == "refused":
            tunnel.open(2, LOGS, "/down")
            await tunnel.whole(2)
        elif flooded == "left":
            tunnel.open(2, EXEC, "/echoes")
            await until(lambda: tunnel.data(2) == RAW_SWITCH)
        caplog.set_level(logging.DEBUG)
        caplog.clear()
        pings = sum(each.opcode == PING for each in tunnel.control)
        for _ in range(10):
            for _ in range(FLOOD // 10):
                tunnel.send(2, REMOVE)
            await echoes(tunnel)
        await until(lambda: sum(each.opcode == PING for each in tunnel.control) > pings)
        await until(lambda: kubelet.live == 1)
        assert tunnel.removes(2) == (0 if flooded == "never opened" else 1)
        assert (len(cloud.tunnels), tunnel.violations) == (1, [])
        ours = [each for each in caplog.records if each.name.startswith(("edgestream", "stream"))]
        assert len(ours) < 5


@pytest.mark.parametrize("flooded", ["never opened", "answered", "live"])
async def test_a_cloud_in_front_of_an_edge_that_floods(
    tmp_path: Path, flooded: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def kubelet(call: KubeletCall) -> None:
        if call.path.startswith("/containerLogs/"):
            await call.write(CHUNKED + encode_chunk(b"line\n") + LAST_CHUNK)
            return
        await call.write(RAW_SWITCH)
        while True:
            await call.write(await call.read())

    async with (
        running_cloud(tmp_path / "pki") as cloud,
        stock_edge(cloud, kubelet) as edge,
        api_client(cloud) as other,
        api_client(cloud) as client,
    ):
        await other.upgrade("/portForward/default/web")
        if flooded == "answered":
            assert (await client.get("/containerLogs/default/web/app")).body == b"line\n"
        elif flooded == "live":
            await client.upgrade("/portForward/default/web")
        session = cloud.service.registry.by_name(NODE).session
        caplog.set_level(logging.DEBUG)
        caplog.clear()
        for _ in range(10):
            for _ in range(FLOOD // 10):
                edge.send(2, REMOVE)
                edge.send(2, DATA, b"x")
            edge.ping()
            word = os.urandom(100)
            other.writer.write(word)
            assert await other.receive(len(word)) == word
        await until(lambda: sum(each.opcode == PONG for each in edge.control) == 10)
        assert session.channel_count == 1
        assert (edge.count(REMOVE), edge.violations) == (0, [])
        if flooded == "live":
            assert await client.rest() == b""
        ours = [each for each in caplog.records if each.name.startswith(("cloudstream", "stream"))]
        assert len(ours) < 5


async def test_a_burst_of_callers_that_leave_is_told_once_each(tmp_path: Path) -> None:
    async def kubelet(call: KubeletCall) -> None:
        await call.write(RAW_SWITCH)
        while True:
            await call.write(await call.read())

    async with running_cloud(tmp_path / "pki") as cloud, stock_edge(cloud, kubelet) as edge:

        async def come_and_leave() -> None:
            async with api_client(cloud) as client:
                await client.upgrade("/portForward/default/web", early=b"x" * 1000)
                client.writer.write(b"y" * 100_000)

        await asyncio.gather(*(come_and_leave() for _ in range(50)))
        await until(lambda: edge.count(REMOVE) == 50)
        await until(lambda: edge.live == 0)
        assert {edge.count(REMOVE, number) for number in range(1, 51)} == {1}
        assert edge.violations == []
