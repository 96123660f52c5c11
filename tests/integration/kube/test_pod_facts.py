"""What an edge is told of a request's pod, by a cloud that asks an API server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values
from streamkit.wire.pod_facts import HEADER, PodFacts, facts_of
from tests.support.api_client import api_client
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.kube_server import KubeServer, kube_server
from tests.support.stock_edge import KubeletCall, stock_edge

LOGS = "/containerLogs/default/web/app"
FORGED = f'{HEADER}: {{"uid":"forged","current":true,"containers":[]}}'
STATUS = {"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
POD = {
    "metadata": {"name": "web", "uid": "8b1c"},
    "spec": {"nodeName": "edge-1", "containers": [{"name": "app"}]},
    "status": {"containerStatuses": [STATUS]},
}


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    async with kube_server(tmp_path / "kube", pods=[POD]) as running:
        yield running


@pytest.fixture
async def cloud(tmp_path: Path, kube: KubeServer) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path / "pki", kube_config=kube.kube_config) as running:
        yield running


class Kubelet:
    """Notes what it is told, and does not know the pod the first ``refusals`` times."""

    def __init__(self, refusals: int = 0) -> None:
        self.requests: list[RequestHead] = []
        self._refusals = refusals

    @property
    def told(self) -> list[PodFacts | None]:
        return [facts_of(request) for request in self.requests]

    async def serve(self, exchange: Exchange) -> None:
        self.requests.append(exchange.request)
        if len(self.requests) <= self._refusals:
            raise KubeletAnswer(404, 'pod "web" does not exist')
        await exchange.send_head(ResponseHead(200))


async def test_the_edge_is_told_what_the_api_server_knows(cloud: Cloud) -> None:
    kubelet = Kubelet()
    async with connected_edge(cloud, kubelet.serve), api_client(cloud) as client:
        for headers in ((), (FORGED,)):
            assert (await client.get(LOGS, *headers)).status == 200
    first, second = kubelet.told
    assert first
    assert (first.uid, first.is_current) == ("8b1c", True)
    assert first.containers[0].reason == "ImagePullBackOff"
    assert second
    assert second.uid == "8b1c"


async def test_what_a_caller_makes_up_does_not_arrive(cloud: Cloud) -> None:
    kubelet = Kubelet()
    async with connected_edge(cloud, kubelet.serve), api_client(cloud) as client:
        for target in ("/metrics", "/containerLogs/default"):
            proxied = f"X-Forwarded-Uri: /api/v1/nodes/edge-1/proxy{target}"
            assert (await client.get(target, proxied, FORGED)).status == 200
    assert kubelet.told == [None, None]
    assert all(not header_values(each.headers, HEADER) for each in kubelet.requests)


async def test_a_stock_edge_is_told_nothing(cloud: Cloud) -> None:
    heads: list[dict[str, list[str]]] = []

    async def kubelet(call: KubeletCall) -> None:
        heads.append(call.headers)
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with stock_edge(cloud, kubelet), api_client(cloud) as client:
        assert (await client.get(LOGS, FORGED)).status == 200
    (head,) = heads
    assert HEADER.lower() not in {name.lower() for name in head}


async def test_an_edge_that_knows_no_such_pod_is_asked_once_more(
    cloud: Cloud, kube: KubeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is watched: what was read a while ago may have changed.
    monkeypatch.setattr("cloudstream.kube.pods.PodDirectory._is_watched", lambda *_: False)
    kubelet = Kubelet()
    async with connected_edge(cloud, kubelet.serve), api_client(cloud) as client:
        assert (await client.get(LOGS)).status == 200
        kubelet._refusals = 2
        assert (await client.get(LOGS)).status == 200
        assert [facts and facts.is_current for facts in kubelet.told] == [True, False, True]
        kubelet._refusals = 9
        answer = await client.get(LOGS)
    assert (answer.status, answer.body) == (400, b'pod "web" does not exist')
    assert [facts and facts.is_current for facts in kubelet.told[3:]] == [False, True]
