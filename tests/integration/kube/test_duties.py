"""What the cloud service does on the API server while nodes come and go."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloudstream.config import CloudSettings, KubernetesSettings
from cloudstream.kube.node_status import kubelet_port
from cloudstream.kube.port_record import ANNOTATION
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.kube_server import KubeServer, kube_server
from tests.support.wait import until

SETTINGS = CloudSettings(
    bind_address="127.0.0.1", kubernetes=KubernetesSettings(advertise_address="10.2.0.12")
)
NODES = [
    {"name": "edge-1", "address": "10.2.4.15", "port": 10250},
    {"name": "edge-2", "address": "10.2.4.16", "port": 10250},
]


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    async with kube_server(tmp_path / "kube", nodes=NODES) as running:
        yield running


async def answer(exchange: Exchange) -> None:
    await exchange.send_head(ResponseHead(200))


def port_of(kube: KubeServer, name: str) -> int:
    return kubelet_port(kube.world.nodes.get(("", name)))


def record(kube: KubeServer) -> Any:
    config_map = kube.world.config_maps.get(("kubeedge", "tunnelport"))
    return json.loads(config_map["metadata"]["annotations"][ANNOTATION])


def is_done(cloud: Cloud) -> bool:
    return all(status.pending == 0 for status in cloud.service.duties().values())


async def test_a_connected_node_leads_api_servers_to_its_cloud(
    tmp_path: Path, kube: KubeServer
) -> None:
    kube_config = kube.kube_config
    async with running_cloud(tmp_path / "pki", SETTINGS, kube_config=kube_config) as cloud:
        async with connected_edge(cloud, answer):
            await until(lambda: port_of(kube, "edge-1") == 10351 and is_done(cloud))
            assert record(kube)["ipTunnelPort"] == {"10.2.0.12": 10351}
            assert {name: status.sentence for name, status in cloud.service.duties().items()} == {
                "tunnel port": (
                    "the kubelet port is 10351, for 10.2.0.12 in the ConfigMap kubeedge/tunnelport"
                ),
                "kubelet port": "1 nodes have the kubelet port 10351",
                "pod watch": "nobody asks for pods",
            }
        assert port_of(kube, "edge-2") == 10250


async def test_the_duties_wait_for_the_api_and_serving_does_not(
    tmp_path: Path, kube: KubeServer
) -> None:
    await kube.stop()
    kube_config = kube.kube_config
    async with (
        running_cloud(tmp_path / "pki", SETTINGS, kube_config=kube_config) as cloud,
        connected_edge(cloud, answer),
    ):
        reader, writer = await cloud.connect()
        writer.write(b"GET /stats/summary HTTP/1.1\r\nHost: 127.0.0.1:10351\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        assert not is_done(cloud)
        await kube.start()
        await until(lambda: port_of(kube, "edge-1") == 10351)


async def test_two_cloud_services_lead_to_themselves(tmp_path: Path, kube: KubeServer) -> None:
    other = SETTINGS.model_copy(
        update={"kubernetes": KubernetesSettings(advertise_address="10.2.0.13")}
    )
    kube_config = kube.kube_config
    async with (
        running_cloud(tmp_path / "pki", SETTINGS, kube_config=kube_config) as first,
        running_cloud(tmp_path / "pki", other, kube_config=kube_config) as second,
    ):
        await until(lambda: is_done(first) and is_done(second))
        ports = record(kube)["ipTunnelPort"]
        assert set(ports.values()) == {10351, 10352}
        for cloud, address in ((first, "10.2.0.12"), (second, "10.2.0.13"), (first, "10.2.0.12")):
            async with connected_edge(cloud, answer):
                wanted = ports[address]
                await until(partial(lambda port: port_of(kube, "edge-1") == port, wanted))


async def test_without_negotiation_the_configured_port_is_published(
    tmp_path: Path, kube: KubeServer
) -> None:
    settings = SETTINGS.model_copy(
        update={"kubernetes": KubernetesSettings(negotiate_tunnel_port=False)}
    )
    kube_config = kube.kube_config
    async with (
        running_cloud(tmp_path / "pki", settings, kube_config=kube_config) as cloud,
        connected_edge(cloud, answer),
    ):
        await until(lambda: port_of(kube, "edge-1") == 10350)
    assert ("kubeedge", "tunnelport") not in kube.world.config_maps
