import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import cloudstream.kube.node_status as module
from cloudstream.kube.api import ApiRefused, JsonObject
from cloudstream.kube.node_status import FixedPort, KubeletPortPublisher, kubelet_port
from cloudstream.node_session import NodeSession
from cloudstream.registry import Registry
from streamkit.errors import LookupFailed, TunnelClosed
from streamkit.session.v2 import V2CloudSession
from streamkit.wire.v2 import V2Settings
from tests.support.kube import Answer, ScriptedKube
from tests.support.kube_server import kube_server
from tests.support.wait import until
from tests.unit.cloudstream.nodes import FakeTunnel, connected

PORT, OTHERS = 10351, 10352


class Ports:
    """Our port, and that of another cloud service."""

    def __init__(self, port: int | None = PORT) -> None:
        self.port = port

    def is_foreign(self, port: int) -> bool:
        return port == OTHERS


class Resumable(V2CloudSession):
    """A session whose edge has said that it may come back for it."""

    @property
    def peer_resume_timeout(self) -> float:
        return 30.0


class Nodes:
    """Node objects, their watch, and who wrote to them."""

    def __init__(self, **ports: int) -> None:
        self.version = 1
        self.ports = {name.replace("_", "-"): port for name, port in ports.items()}
        self.kube = ScriptedKube(self.answer)
        self.errors: list[Exception] = []

    def answer(self, method: str, path: str) -> Answer:
        if method == "GET":
            items = [self.node(name) for name in self.ports]
            return {"metadata": {"resourceVersion": str(self.version)}, "items": items}
        if self.errors:
            return self.errors.pop(0)
        name = path.split("/")[-2]
        if name not in self.ports:
            return ApiRefused(404, f"PATCH {path}")
        body = self.kube.bodies[-1]
        assert body is not None
        self.ports[name] = kubelet_port(body)
        return self.node(name)

    def node(self, name: str) -> JsonObject:
        self.version += 1
        status = {"daemonEndpoints": {"kubeletEndpoint": {"Port": self.ports[name]}}}
        return {
            "metadata": {"name": name, "resourceVersion": str(self.version)},
            "status": status,
        }

    def overwrite(self, name: str, port: int) -> None:
        """As somebody else does."""
        self.ports[name] = port
        self.kube.watches[-1].send("MODIFIED", self.node(name))

    @property
    def writes(self) -> list[str]:
        return [line.split("/")[-2] for line in self.kube.requests if not line.startswith("GET")]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SWEEP", "_SETTLE", "_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(module, name, 0.002)
    monkeypatch.setattr(module, "_JUST_ATTACHED", 0.0)


@contextlib.asynccontextmanager
async def publishing(
    nodes: Nodes, registry: Registry, ports: Ports | FixedPort | None = None, *, wait: float = 0
) -> AsyncIterator[KubeletPortPublisher]:
    publisher = KubeletPortPublisher(nodes.kube, registry, ports or Ports(), yield_after=wait)
    task = asyncio.create_task(publisher.run())
    try:
        await until(lambda: bool(nodes.kube.watches) or nodes.kube.watch_error is not None)
        yield publisher
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


def registry_of(*nodes: NodeSession) -> Registry:
    registry = Registry()
    for node in nodes:
        registry.add(node)
    return registry


async def test_connected_nodes_get_the_port_and_no_others() -> None:
    nodes = Nodes(edge_1=10250, edge_2=PORT, edge_3=10250)
    registry = registry_of(connected("edge-1"), connected("edge-2"))
    async with publishing(nodes, registry) as publisher:
        await until(lambda: nodes.ports["edge-1"] == PORT)
        await until(lambda: publisher.status().pending == 0)
        assert publisher.status().sentence == "2 nodes have the kubelet port 10351"
    assert nodes.writes == ["edge-1"]
    assert nodes.ports["edge-3"] == 10250


async def test_a_node_that_connects_later_gets_it_too() -> None:
    nodes, registry = Nodes(edge_1=0), Registry()
    async with publishing(nodes, registry):
        registry.add(connected("edge-1"))
        await until(lambda: nodes.ports["edge-1"] == PORT)


async def test_conflicts_and_failures_are_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes(edge_1=10250)
    nodes.errors = [ApiRefused(409, "PATCH x")] * 3 + [LookupFailed("the API is away")] * 3
    async with publishing(nodes, registry_of(connected("edge-1"))):
        await until(lambda: nodes.ports["edge-1"] == PORT)
    assert len(nodes.writes) == 7
    assert caplog.text.count("the API is away") == 1


async def test_what_is_pending_can_be_seen() -> None:
    nodes = Nodes()
    registry = registry_of(connected("edge-1"), connected(".."))
    async with publishing(nodes, registry) as publisher:
        await until(lambda: len(nodes.writes) > 2)
        status = publisher.status()
        assert status.pending == 2
        assert status.sentence.startswith("2 nodes still lack the kubelet port 10351 (")
        assert "answered 404" in status.sentence
        nodes.ports["edge-1"] = 0
        await until(lambda: publisher.status().pending == 1)
        registry.remove(registry.by_name(".."))
        await until(lambda: publisher.status().pending == 0)


async def test_nothing_is_written_before_the_port_is_known() -> None:
    nodes, ports = Nodes(edge_1=10250), Ports(None)
    async with publishing(nodes, registry_of(connected("edge-1")), ports) as publisher:
        await until(lambda: publisher.status().pending == 1)
        assert publisher.status().sentence == "the kubelet port is not known yet"
        assert nodes.writes == []
        ports.port = PORT
        await until(lambda: nodes.ports["edge-1"] == PORT)


async def test_what_others_overwrite_is_put_back() -> None:
    nodes = Nodes(edge_1=PORT)
    async with publishing(nodes, registry_of(connected("edge-1"))) as publisher:
        for port in (10250, 10350, 0):
            await until(lambda: publisher.status().pending == 0)
            nodes.overwrite("edge-1", port)
            await until(lambda: nodes.ports["edge-1"] == PORT)
    assert len(nodes.writes) == 3


async def test_the_port_of_another_cloud_service_stands_until_the_tunnel_proves_alive(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(edge_1=PORT)
    async with publishing(nodes, registry_of(connected("edge-1")), wait=3600) as publisher:
        await until(lambda: publisher.status().sentence.startswith("1 nodes have"))
        nodes.overwrite("edge-1", OTHERS)
        await until(lambda: "another cloud service published its port 10352" in caplog.text)
        assert publisher.status().pending == 1
        assert nodes.writes == []
        monkeypatch.setattr(publisher, "_yield_after", 0.0)
        await until(lambda: nodes.ports["edge-1"] == PORT)
    assert nodes.writes == ["edge-1"]


async def test_what_another_wrote_before_a_tunnel_came_does_not_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_JUST_ATTACHED", 3600.0)
    nodes = Nodes(edge_1=PORT)
    async with publishing(nodes, registry_of(connected("edge-1")), wait=3600) as publisher:
        await until(lambda: publisher.status().sentence.startswith("1 nodes have"))
        nodes.overwrite("edge-1", OTHERS)
        await until(lambda: nodes.ports["edge-1"] == PORT)


async def test_a_new_tunnel_takes_the_node_over_at_once() -> None:
    nodes = Nodes(edge_1=OTHERS)
    node = connected("edge-1")
    async with publishing(nodes, registry_of(node), wait=3600) as publisher:
        await until(lambda: nodes.ports["edge-1"] == PORT)
        await until(lambda: publisher.status().pending == 0)
        nodes.overwrite("edge-1", OTHERS)
        await until(lambda: publisher.status().pending == 1)
        node.attach(FakeTunnel(), "10.0.0.1")  # the edge came back and resumed its session
        await until(lambda: nodes.ports["edge-1"] == PORT)


async def test_whoever_lost_the_tunnel_writes_nothing() -> None:
    nodes, tunnel = Nodes(edge_1=PORT, edge_2=0), FakeTunnel()
    session = Resumable("token", V2Settings())
    node = NodeSession("edge-1", session, resume_timeout=30, ended=lambda node: None)
    node.attach(tunnel, "10.0.0.1")
    node.detach(tunnel, TunnelClosed("gone"), will_return=True)
    registry = registry_of(node)
    async with publishing(nodes, registry) as publisher:
        nodes.overwrite("edge-1", 10250)
        registry.add(connected("edge-2"))
        await until(lambda: nodes.ports["edge-2"] == PORT)
        await until(lambda: publisher.status().pending == 0)
    assert nodes.writes == ["edge-2"]
    node.close(TunnelClosed("over"))


async def test_news_that_is_older_than_our_own_write_is_none() -> None:
    nodes = Nodes(edge_1=10250)
    old = nodes.node("edge-1")
    async with publishing(nodes, registry_of(connected("edge-1"))) as publisher:
        await until(lambda: publisher.status().sentence.startswith("1 nodes have"))
        publisher.changed("MODIFIED", old)
        publisher._woken.set()
        nodes.kube.watches[-1].send("MODIFIED", nodes.node("edge-1"))
        await until(lambda: publisher._seen["edge-1"].version == str(nodes.version))
    assert nodes.writes == ["edge-1"]


async def test_without_a_watch_the_port_is_written_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_FIRST_LOOK", 0.01)
    monkeypatch.setattr(module, "_RESYNC", 0.01)
    nodes = Nodes(edge_1=10250)
    nodes.kube.watch_error = ApiRefused(403, "the watch")
    answer = nodes.answer

    def no_list(method: str, path: str) -> Answer:
        return ApiRefused(403, "GET") if method == "GET" else answer(method, path)

    nodes.kube.answer = no_list
    async with publishing(nodes, registry_of(connected("edge-1"))):
        await until(lambda: len(nodes.writes) > 2)


async def test_many_nodes_are_written_a_few_at_a_time() -> None:
    names = [f"edge-{number}" for number in range(100)]
    nodes = Nodes(**dict.fromkeys(names, 10250))
    registry = registry_of(*map(connected, names))
    async with publishing(nodes, registry) as publisher:
        nodes.kube.released.clear()
        await until(lambda: len(nodes.writes) >= 8)
        assert publisher._writing <= 8
        nodes.kube.released.set()
        await until(lambda: set(nodes.ports.values()) == {PORT})
    assert len(nodes.writes) == 100


def test_a_fixed_port_is_nobody_elses() -> None:
    assert FixedPort(10350).port == 10350
    assert not FixedPort(10350).is_foreign(10351)


@pytest.mark.parametrize(
    "node", [{}, {"status": None}, {"status": {"daemonEndpoints": {"kubeletEndpoint": []}}}]
)
def test_a_node_may_publish_no_port(node: JsonObject) -> None:
    assert kubelet_port(node) == 0


async def test_a_real_node_keeps_its_other_status(tmp_path: Path) -> None:
    configured = [{"name": "edge-1", "address": "10.2.4.15", "port": 10250}]
    async with kube_server(tmp_path, nodes=configured) as server:
        api = server.api()
        publisher = KubeletPortPublisher(
            api, registry_of(connected("edge-1")), FixedPort(PORT), yield_after=0
        )
        task = asyncio.create_task(publisher.run())
        await until(lambda: publisher.status().sentence == "1 nodes have the kubelet port 10351")
        node = server.world.nodes.get(("", "edge-1"))
        assert kubelet_port(node) == PORT
        assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": "10.2.4.15"}
        # Somebody else's whole status, as an edge's kubelet sends it.
        await api.request("PUT", "/api/v1/nodes/edge-1/status", body=reset_port(node))
        await until(lambda: kubelet_port(server.world.nodes.get(("", "edge-1"))) == 10250)
        await until(lambda: kubelet_port(server.world.nodes.get(("", "edge-1"))) == PORT)
        task.cancel()
        await asyncio.wait([task])
        await api.close()


def reset_port(node: JsonObject) -> JsonObject:
    status = {**node["status"], "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}
    return {**node, "metadata": {"name": node["metadata"]["name"]}, "status": status}


def node_at(name: str, port: int, *addresses: str) -> JsonObject:
    """A Node with an address of each kind."""
    listed = [{"type": "InternalIP", "address": each} for each in addresses]
    listed.append({"type": "Hostname", "address": name})
    endpoints = {"kubeletEndpoint": {"Port": port}}
    return {
        "metadata": {"name": name, "resourceVersion": "1"},
        "status": {"addresses": listed, "daemonEndpoints": endpoints},
    }


def test_nodes_are_found_by_their_address_if_they_lead_to_a_cloud_service() -> None:
    publisher = KubeletPortPublisher(
        ScriptedKube(lambda method, path: None), Registry(), Ports(), yield_after=1
    )
    assert publisher.names_at("10.0.0.1") == []
    publisher.listed(
        [
            node_at("ours", PORT, "10.0.0.1", "FD00::1"),
            node_at("theirs", OTHERS, "10.0.0.1"),
            node_at("in-the-cloud", 10250, "10.0.0.1"),
            {"metadata": {"name": "new"}},
        ]
    )
    assert publisher.names_at("10.0.0.1") == ["ours", "theirs"]
    assert publisher.names_at("fd00::1") == ["ours"]
    assert publisher.names_at("ours") == []


def test_a_node_leads_here_until_it_is_seen_with_another_port() -> None:
    publisher = KubeletPortPublisher(
        ScriptedKube(lambda method, path: None), Registry(), Ports(), yield_after=1
    )
    assert publisher.published("edge-1") is None
    publisher.listed([node_at("edge-1", PORT)])
    # Without a watch nobody would tell of its other port.
    assert not publisher.is_leading_here(["edge-1"])
    publisher.watching()
    assert publisher.is_leading_here(["edge-2", "edge-1"])
    assert not publisher.is_leading_here(["edge-2"])
    publisher.changed("MODIFIED", node_at("edge-1", OTHERS))
    assert not publisher.is_leading_here(["edge-1"])
    seen = publisher.published("edge-1")
    assert seen
    assert seen.port == OTHERS
