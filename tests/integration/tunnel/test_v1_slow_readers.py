"""Readers over v1 that are slower than their edge, at the default limits."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.wait import until

LIMIT = 40.0
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
PIECE = 64 * 1024
SPEED = 20e6
"""Bytes that the slow reader takes in a second, at most."""

MUCH = 60_000_000
"""Bytes, more than the cloud and all kernel buffers on the way hold."""


@pytest.fixture
async def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    """A cloud that knows no v2 takes nothing of what the edge offers."""
    monkeypatch.setattr("cloudstream.tunnel_server.SUBPROTOCOL", "")
    async with running_cloud(tmp_path / "pki") as made:
        yield made


async def serve(exchange: Exchange) -> None:
    """Writes much after a 101; says a word otherwise."""
    if not exchange.request.is_upgrade:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(b"word")
        return
    await exchange.send_head(SWITCH)
    for _ in range(0, MUCH, PIECE):
        await exchange.write(bytes(PIECE))


async def ask(cloud: Cloud) -> None:
    """Another request is answered."""
    async with api_client(cloud) as client:
        proxied = f"X-Forwarded-Uri: /api/v1/nodes/{NODE}/proxy/"
        assert (await client.get("/pods", proxied)).body == b"word"


async def test_a_slow_reader_gets_everything_and_others_get_on(cloud: Cloud) -> None:
    async with connected_edge(cloud, serve), api_client(cloud) as client:
        await client.upgrade("/portForward/default/web")
        received = asked = 0
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as others:
            while data := await client.reader.read(PIECE):
                received += len(data)
                await asyncio.sleep(len(data) / SPEED)
                if received > (asked + 1) * MUCH / 6:
                    others.create_task(ask(cloud))
                    asked += 1
    assert received >= MUCH
    assert asked == 6


async def test_a_reader_that_stalls_is_broken_off_and_others_get_on(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected_edge(cloud, serve) as kubelet, api_client(cloud) as client:
        await client.upgrade("/portForward/default/web")
        await until(lambda: kubelet.live == 1)
        for _ in range(5):
            await ask(cloud)
        async with asyncio.timeout(LIMIT):
            while kubelet.live:
                await asyncio.sleep(0.01)
        await ask(cloud)
    assert "KS3002" in caplog.text
