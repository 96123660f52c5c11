"""Scrapers that come straight to the stream port with a bearer token, as to any kubelet."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgestream.kubelet.exchange import Exchange
from streamkit.service.logs import TRACE
from streamkit.wire.exchange import ResponseHead, header_values
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.kube_server import KubeServer, kube_server

SCRAPER, STRANGER, MASTER = "scraper-secret", "stranger-secret", "master-secret"
TOKENS = {
    SCRAPER: {"user": "metrics-server", "allowed": ["nodes/metrics"]},
    STRANGER: {"user": "stranger"},
    MASTER: {"user": "root", "groups": ["system:masters"]},
}


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    async with kube_server(tmp_path / "kube", tokens=TOKENS) as running:
        yield running


@pytest.fixture
async def cloud(tmp_path: Path, kube: KubeServer) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path / "pki", kube_config=kube.kube_config) as running:
        yield running


async def serve(exchange: Exchange) -> None:
    """Answer with the Authorization headers that came along: there must be none."""
    await exchange.send_head(ResponseHead(200))
    seen = header_values(exchange.request.headers, "authorization")
    await exchange.write(f"{exchange.request.target} {seen}".encode())


async def call(
    cloud: Cloud, path: str, token: str = "", *, stem: str | None = None
) -> tuple[int, str]:
    """Status and body of a request with that token and that certificate."""
    reader, writer = await cloud.connect(stem)
    header = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:10351\r\n{header}\r\n".encode())
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if "ontent-" in head and "ength: " in head:
            size = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
            body = await reader.readexactly(size)
        else:
            body = (await reader.readuntil(b"0\r\n\r\n")).split(b"\r\n")[1]
    writer.close()
    return int(head.split()[1]), body.decode()


async def test_a_scraper_reads_metrics_and_nothing_else(cloud: Cloud) -> None:
    async with connected_edge(cloud, serve):
        assert await call(cloud, "/metrics/resource", SCRAPER) == (200, "/metrics/resource []")
        forbidden = "Forbidden (user=metrics-server, verb=get, resource=nodes, subresource(s)="
        for path, subresources in (
            ("/stats/summary", "[stats]"),
            ("/containerLogs/default/web/app", "[proxy]"),
            ("/metrics/../exec/default/web/app?command=sh", "[proxy]"),
            ("/pods", "[pods proxy]"),
        ):
            assert await call(cloud, path, SCRAPER) == (403, f"{forbidden}{subresources})")
        assert (await call(cloud, "/metrics", STRANGER))[0] == 403
        assert await call(cloud, "/stats/summary", MASTER) == (200, "/stats/summary []")


async def test_an_unknown_token_and_none_at_all_are_refused(cloud: Cloud) -> None:
    async with connected_edge(cloud, serve):
        assert await call(cloud, "/metrics", "nobody's") == (401, "Unauthorized")
        status, text = await call(cloud, "/metrics")
        assert (status, "client certificate or a bearer token" in text) == (401, True)


async def test_a_token_says_nothing_to_an_edge_whoever_sends_it(cloud: Cloud) -> None:
    async with connected_edge(cloud, serve):
        answer = await call(cloud, "/metrics", SCRAPER, stem="apiserver-client")
        assert answer == (200, "/metrics []")


async def test_known_scrapers_are_served_while_the_api_is_away(
    cloud: Cloud, kube: KubeServer
) -> None:
    async with connected_edge(cloud, serve):
        assert (await call(cloud, "/metrics", SCRAPER))[0] == 200
        await kube.stop()
        assert (await call(cloud, "/metrics/cadvisor", SCRAPER))[0] == 200
        status, text = await call(cloud, "/metrics", STRANGER)
        assert (status, "the Kubernetes API can't be reached" in text) == (503, True)


async def test_no_token_is_in_any_log(
    cloud: Cloud, kube: KubeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(TRACE, logger="cloudstream")
    async with connected_edge(cloud, serve):
        for token in (SCRAPER, STRANGER, "nobody's-secret"):
            await call(cloud, "/metrics", token)
        await kube.stop()
        await call(cloud, "/stats/summary", MASTER)
    assert "Forbidden (user=stranger" in caplog.text
    assert "secret" not in caplog.text
