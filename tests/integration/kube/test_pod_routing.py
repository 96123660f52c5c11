"""Log requests through the cloud, which asks an API server where the pods are."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloudstream.kube.api import AsyncioKubeApi, JsonObject
from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import Serve, connected_edge
from tests.support.kube_server import KubeServer, kube_server, running_pod

PODS = [f"p{number}" for number in range(10)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that go to the API server."""
    lines: list[str] = []
    request = AsyncioKubeApi.request

    async def counting(self: AsyncioKubeApi, method: str, path: str, **more: Any) -> JsonObject:
        lines.append(f"{method} {path}")
        return await request(self, method, path, **more)

    monkeypatch.setattr(AsyncioKubeApi, "request", counting)
    return lines


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    pods = [running_pod(name, "edge-1") for name in PODS]
    async with kube_server(tmp_path / "kube", pods=pods) as running:
        yield running


@pytest.fixture
async def cloud(tmp_path: Path, kube: KubeServer) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path / "pki", kube_config=kube.kube_config) as running:
        yield running


def kubelet(node: str, pods: set[str]) -> Serve:
    """A kubelet that answers its node's name for its pods' logs."""

    async def serve(exchange: Exchange) -> None:
        name = exchange.request.path.split("/")[3]
        if name not in pods:
            raise KubeletAnswer(404, f'pod "{name}" not found\n')
        await exchange.send_head(ResponseHead(200))
        await exchange.write(node.encode())

    return serve


async def log_of(cloud: Cloud, *pods: str) -> list[str]:
    """The first line of each pod's log, asked for one after the other on one connection."""
    reader, writer = await cloud.connect()
    answers = []
    async with asyncio.timeout(30):
        for name in pods:
            writer.write(
                f"GET /containerLogs/default/{name}/app HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if "content-length: " in head:
                size = int(head.split("content-length: ")[1].split("\r\n")[0])
                answers.append((await reader.readexactly(size)).decode())
            else:
                chunked = await reader.readuntil(b"0\r\n\r\n")
                answers.append(chunked.split(b"\r\n")[1].decode())
    writer.close()
    return answers


async def test_a_thousand_logs_are_few_questions(cloud: Cloud, asked: list[str]) -> None:
    async with connected_edge(cloud, kubelet("edge-1", set(PODS))):
        answers = await asyncio.gather(*(log_of(cloud, *PODS * 10) for _ in range(10)))
    assert {text for each in answers for text in each} == {"edge-1"}
    assert sum(len(each) for each in answers) == 1000
    assert len([line for line in asked if "/pods" in line]) <= 20


async def test_a_moved_pod_is_found_at_once(cloud: Cloud, kube: KubeServer) -> None:
    first, second = {"p1"}, set[str]()
    async with (
        connected_edge(cloud, kubelet("edge-1", first)),
        connected_edge(cloud, kubelet("edge-2", second), node="edge-2"),
    ):
        assert await log_of(cloud, "p1") == ["edge-1"]
        for node, there, here in (("edge-2", second, first), ("edge-1", first, second)) * 3:
            kube.world._static["default", "p1"] = {
                **kube.world._static["default", "p1"],
                "spec": {"nodeName": node, "containers": [{"name": "app"}]},
            }
            there.add("p1")
            here.clear()
            assert await log_of(cloud, "p1") == [node]


async def test_a_pod_that_is_gone_from_its_node_is_told(cloud: Cloud, kube: KubeServer) -> None:
    async with connected_edge(cloud, kubelet("edge-1", set())):
        assert await log_of(cloud, "p1") == ['pod "p1" not found']
        del kube.world._static["default", "p1"]
        (text,) = await log_of(cloud, "p1")
        assert 'pod "p1" does not exist' in text


async def test_known_pods_are_served_while_the_api_is_away(
    cloud: Cloud, kube: KubeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudstream.kube.pods._FRESH", 0.0)
    async with connected_edge(cloud, kubelet("edge-1", set(PODS)), node_ip="10.99.0.1"):
        assert await log_of(cloud, "p1") == ["edge-1"]
        await kube.stop()
        assert await log_of(cloud, *["p1"] * 20) == ["edge-1"] * 20
        (text,) = await log_of(cloud, "p2")
        assert "the Kubernetes API can't be reached" in text
        monkeypatch.setattr("cloudstream.kube.pods._AWAY", 0.0)
        await kube.start()
        assert await log_of(cloud, "p2") == ["edge-1"]


async def test_the_service_starts_without_its_api(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    async with contextlib.AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(
            running_cloud(tmp_path / "pki", kube_config=missing)
        )
        await stack.enter_async_context(
            connected_edge(cloud, kubelet("edge-1", {"p1"}), node_ip="127.0.0.1")
        )
        # Without an answer of the API the address that was dialled says which node it is.
        assert await log_of(cloud, "p1") == ["edge-1"]
