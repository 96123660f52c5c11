"""Requests that name a node by its address or its name alone, while addresses change."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import Serve, connected_edge

OLD, NEW, V6 = "10.2.4.15", "10.2.4.99", "fd00:4::15"


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path) as running:
        yield running


def kubelet(node: str) -> Serve:
    """A kubelet whose metrics are its node's name."""

    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(node.encode())

    return serve


async def metrics_at(cloud: Cloud, host: str) -> tuple[int, str]:
    """Status and body of a scrape of that host."""
    async with api_client(cloud) as client:
        client.writer.write(f"GET /metrics/resource HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = await client.answer()
        return answer.status, answer.body.decode()


async def test_a_node_whose_address_changes_is_found_by_its_new_one(cloud: Cloud) -> None:
    async with connected_edge(cloud, kubelet(NODE), node_ip=OLD):
        assert await metrics_at(cloud, f"{OLD}:10351") == (200, NODE)
    async with connected_edge(cloud, kubelet(NODE), node_ip=NEW):
        status, text = await metrics_at(cloud, f"{OLD}:10351")
        assert (status, "no connected edge node has the address" in text) == (404, True)
        assert await metrics_at(cloud, f"{NEW}:10351") == (200, NODE)
        assert await metrics_at(cloud, f"{NODE}:10351") == (200, NODE)


@pytest.mark.parametrize("host", [f"[{V6}]:10351", f"[{V6}]", "[FD00:4:0::15]:10351"])
async def test_an_ipv6_address_is_found_however_it_is_spelled(cloud: Cloud, host: str) -> None:
    async with connected_edge(cloud, kubelet(NODE), node_ip=V6):
        assert await metrics_at(cloud, host) == (200, NODE)


async def test_an_address_of_two_nodes_reaches_neither(cloud: Cloud) -> None:
    async with (
        connected_edge(cloud, kubelet(NODE), node_ip=OLD),
        connected_edge(cloud, kubelet("edge-2"), node="edge-2", node_ip=OLD),
    ):
        status, text = await metrics_at(cloud, f"{OLD}:10351")
        assert status == 404
        assert f"the address {OLD} belongs to several nodes (edge-1, edge-2)" in text
        for name in (NODE, "edge-2"):
            assert await metrics_at(cloud, f"{name}:10351") == (200, name)
