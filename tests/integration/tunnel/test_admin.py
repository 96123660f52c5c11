"""The admin addresses of both services, with a tunnel between them and without."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgestream import service
from edgestream.config import EdgeConfig, EdgeSettings
from edgestream.kubelet.exchange import Exchange
from streamkit.errors import RuntimeUnavailable
from streamkit.wire.exchange import ResponseHead
from tests.support.admin import Admin, admin_of
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.http_server import free_port
from tests.support.wait import until

PROXIED = f"X-Forwarded-Uri: /api/v1/nodes/{NODE}/proxy/stats/summary"
SIZE = 100_000


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path / "pki", has_admin=True) as running:
        yield running


class Kubelet:
    """Answers with many bytes, and its runtime can go away."""

    is_away = False

    async def serve(self, exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(bytes(SIZE))

    async def check(self) -> None:
        if self.is_away:
            raise RuntimeUnavailable("the runtime sleeps")

    async def close(self) -> None:
        pass


async def test_the_cloud_counts_what_passed(cloud: Cloud) -> None:
    admin = admin_of(cloud)
    before = await admin.metrics()
    assert before['cloudstream_tunnels{wire="v2"}'] == 0
    async with connected_edge(cloud, Kubelet().serve, heartbeat=0.1), api_client(cloud) as client:
        assert len((await client.get("/stats/summary", PROXIED)).body) == SIZE
        assert (await client.get("/containerLogs/default/web/app", "Host: x")).status >= 400
        metrics = await admin.metrics()
        assert metrics['cloudstream_tunnels{wire="v2"}'] == 1
        assert metrics['cloudstream_tunnel_connects_total{session="new",wire="v2"}'] == 1
        assert metrics['cloudstream_requests_total{kind="stats",status="200"}'] == 1
        assert metrics['cloudstream_request_duration_seconds_count{kind="stats"}'] == 1
        assert metrics["cloudstream_request_open_seconds_count"] >= 1
        assert metrics['cloudstream_channels{kind="stats"}'] == 0
        assert metrics['cloudstream_tunnel_bytes_total{direction="from_edge"}'] > SIZE
        assert metrics['cloudstream_tunnel_bytes_total{direction="to_edge"}'] > 100
        assert metrics["cloudstream_tunnel_round_trip_seconds_count"] >= 0
        ends = [key for key in metrics if key.startswith("cloudstream_certificate_expiry")]
        assert len(ends) == 4
    await until(lambda: not cloud.service.registry.nodes())
    metrics = await admin.metrics()
    assert metrics['cloudstream_tunnels{wire="v2"}'] == 0
    assert sum(v for k, v in metrics.items() if k.startswith("cloudstream_tunnel_disc")) == 1
    assert metrics['cloudstream_tunnel_bytes_total{direction="from_edge"}'] > SIZE


async def test_a_cloud_that_stops_is_not_ready(cloud: Cloud) -> None:
    admin = admin_of(cloud)
    is_released = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await is_released.wait()

    async with connected_edge(cloud, wait), api_client(cloud) as client:
        client.send("GET", "/stats/summary", PROXIED)
        assert (await client.head())[0] == 200
        assert await admin.get("/readyz") == (200, "ok")
        cloud.task.cancel()
        await admin.until("/readyz", "[-]shutdown failed: the service is stopping\n")
        assert (await admin.get("/readyz"))[0] == 503
        assert await admin.get("/livez") == (200, "ok")
        is_released.set()
        await asyncio.wait([cloud.task], timeout=10)
    with pytest.raises(OSError):
        await admin.get("/livez")


def edge_config(cloud: Cloud, admin_port: int) -> EdgeConfig:
    return EdgeConfig(
        server=f"127.0.0.1:{cloud.tunnel_port}",
        tunnel_tls=cloud.files(f"edge-{NODE}"),
        handshake_timeout=10,
        read_deadline=15,
        write_deadline=15,
        node_name=NODE,
        node_ip="127.0.0.1",
        runtime_endpoint="",
        kubelet_address="",
        kubelet_port=10350,
        root_directory=Path("/"),
        settings=EdgeSettings(admin_address=f"127.0.0.1:{admin_port}"),
    )


async def test_an_edge_is_ready_with_a_tunnel_and_a_runtime(cloud: Cloud) -> None:
    kubelet = Kubelet()
    admin = Admin(free_port())
    run = service.run(edge_config(cloud, admin.port), handler=lambda config: kubelet)
    task = asyncio.create_task(run)
    try:
        await until(lambda: bool(cloud.service.registry.nodes()))
        await admin.until_ok("/readyz")
        async with api_client(cloud) as client:
            assert (await client.get("/stats/summary", PROXIED)).status == 200
        metrics = await admin.metrics()
        assert metrics["edgestream_connected"] == 1
        assert metrics['edgestream_tunnel_connects_total{session="new",wire="v2"}'] == 1
        assert metrics['edgestream_requests_total{kind="stats",status="200"}'] == 1
        kubelet.is_away = True
        assert await admin.get("/readyz/runtime") == (503, "the runtime sleeps\n")
        kubelet.is_away = False
        cloud.task.cancel()
        await admin.until("/readyz", "[-]tunnel failed: the cloud", "[+]runtime ok\n")
        metrics = await admin.metrics()
        assert metrics["edgestream_connected"] == 0
        assert any(key.startswith("edgestream_tunnel_failures_total{") for key in metrics)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
