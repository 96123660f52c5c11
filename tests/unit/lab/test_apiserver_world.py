"""All objects: reading runtimes, and finding kubelet ports."""

import asyncio
import threading
from typing import Any

import grpc
import pytest

from lab.apiserver.cripods import CriPods
from lab.apiserver.kubelet import KubeletPort
from lab.apiserver.status import ApiError
from lab.apiserver.store import Key, Object
from lab.apiserver.world import World
from tests.unit.lab.apiserver_kit import LIMIT, Keys, edge_config, make_config


class ScriptedSource(CriPods):
    """A runtime whose pods a test sets; None makes it fail."""

    def __init__(self, keys: Keys) -> None:
        config = make_config(keys, nodes=[{"name": "edge-1"}])
        super().__init__(lambda *_: None, config.nodes[0])
        self.config = config
        self.found: list[str] | None = []
        self.readings = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def read(self) -> dict[Key, Object]:
        self.readings += 1
        assert self.may_answer.wait(LIMIT)
        if self.found is None:
            raise grpc.RpcError
        pod: dict[str, Any] = {"kind": "Pod", "spec": {"nodeName": "edge-1"}}
        return {
            ("edge", name): {**pod, "metadata": {"name": name, "namespace": "edge"}}
            for name in self.found
        }


@pytest.fixture
def source(keys: Keys) -> ScriptedSource:
    return ScriptedSource(keys)


def names(world: World) -> list[str]:
    return [pod["metadata"]["name"] for pod in world.pods]


async def test_pods_come_and_go_with_the_runtimes(source: ScriptedSource) -> None:
    world = World(source.config, [source])
    source.found = ["a", "b"]
    await world.refresh_pods()
    assert names(world) == ["a", "b"]
    assert ("", "edge") in world.namespaces
    source.found = ["b"]
    await world.refresh_pods()
    assert names(world) == ["b"]


async def test_pods_stay_while_their_runtime_is_silent(source: ScriptedSource) -> None:
    world = World(source.config, [source])
    source.found = None
    await world.refresh_pods()
    assert names(world) == []
    source.found = ["a"]
    await world.refresh_pods()
    source.found = None
    await world.refresh_pods()
    assert names(world) == ["a"]


async def test_a_runtime_that_hangs_is_waited_for_once(
    source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.apiserver.world.READ_PATIENCE", 0.01)
    world = World(source.config, [source])
    source.found = ["a"]
    await world.refresh_pods()
    source.may_answer.clear()
    async with asyncio.timeout(LIMIT):
        for _ in range(3):
            await world.refresh_pods()
        assert (names(world), source.readings) == (["a"], 2)
        source.found = ["b"]
        source.may_answer.set()
        while names(world) != ["b"]:
            await world.refresh_pods()


async def test_callers_that_wait_share_a_reading(source: ScriptedSource) -> None:
    world = World(source.config, [source])
    source.may_answer.clear()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(world.refresh_pods())
        await asyncio.sleep(0)
        source.may_answer.set()
    assert source.readings == 2


def test_a_kubelet_port_is_the_nodes_address_and_published_port(keys: Keys) -> None:
    world = World(edge_config(keys, 10003), [])
    found = world.kubelet_port("edge-1", resource="pods")
    assert found == KubeletPort("10.99.0.1", 10351, ("127.0.0.1", 10003))
    assert found.netloc == "10.99.0.1:10351"
    status = {"addresses": [{"type": "InternalIP", "address": "10.99.0.7"}]}
    world.nodes.replace(("", "edge-1"), {"status": status}, only="status")
    assert world.kubelet_port("edge-1", resource="pods").netloc == "10.99.0.7:10250"
    with pytest.raises(ApiError, match='pods "edge-9" not found'):
        world.kubelet_port("edge-9", resource="pods")
