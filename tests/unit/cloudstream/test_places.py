import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

import pytest

from cloudstream.places import ChannelOpener, Places
from cloudstream.registry import Registry
from cloudstream.replicas.exchange import ReplicaSession
from cloudstream.replicas.replicas import Replicas
from streamkit.errors import NodeNotConnected, NodeUnknown
from tests.unit.cloudstream.nodes import connected

PEER = cast(ReplicaSession, object())


class FakeReplicas:
    """One other replica, which may or may not be believed to hold the node."""

    def __init__(self, *, published_elsewhere: bool = False) -> None:
        self.asked = 0
        self._published_elsewhere = published_elsewhere
        self.addresses_of = {"edge-1": "10.0.0.1", "edge-2": "10.0.0.2", "edge-3": "10.0.0.1"}
        self.on_ask: Callable[[], None] = lambda: None

    def addresses(self) -> list[tuple[str, int]]:
        return [("10.0.0.2", 10003)]

    def is_known(self, node_name: str) -> bool:
        return node_name == "edge-2"

    def published_elsewhere(self, node_name: str, *, since: float) -> bool:
        return self._published_elsewhere

    def names_at(self, address: str) -> list[str]:
        return [name for name, each in self.addresses_of.items() if each == address]

    def candidates(self, node_name: str) -> list[ReplicaSession]:
        self.asked += 1
        self.on_ask()
        return [PEER]


def places(
    registry: Registry, replicas: FakeReplicas | None = None, *, reconnect: float = 0.05
) -> Places:
    return Places(registry, cast(Replicas | None, replicas), reconnect=reconnect)


async def first(found: Places, count: int, name: str = "edge-1") -> list[ChannelOpener]:
    """The first places, none of which meets the node."""
    met: list[ChannelOpener] = []
    async with contextlib.aclosing(found.of(name)) as each, asyncio.timeout(10):
        async for place in each:
            met.append(place)
            if len(met) == count:
                break
    return met


async def test_a_node_that_is_here_is_asked_here() -> None:
    registry, replicas = Registry(), FakeReplicas()
    node = connected("edge-1")
    registry.add(node)
    assert await first(places(registry, replicas), 1) == [node.session]
    assert replicas.asked == 0


async def test_where_nobody_has_it_the_others_are_asked_until_the_time_is_over() -> None:
    replicas = FakeReplicas()
    with pytest.raises(NodeNotConnected, match="edge-1"):
        await first(places(Registry(), replicas), 100)
    assert replicas.asked >= 1
    with pytest.raises(NodeNotConnected, match="edge-1"):
        await first(places(Registry()), 1)


async def test_the_others_are_asked_less_and_less_often() -> None:
    replicas = FakeReplicas()
    with pytest.raises(NodeNotConnected):
        await first(places(Registry(), replicas, reconnect=0.8), 100)
    # After 0.1, 0.3 and 0.7 s, and when the time is over.
    assert replicas.asked <= 5


@pytest.mark.parametrize("replicas", [None, FakeReplicas()])
async def test_a_node_that_is_on_its_way_here_is_waited_for(replicas: FakeReplicas | None) -> None:
    registry = Registry()
    late = connected("edge-1")
    asyncio.get_running_loop().call_later(0.2, registry.add, late)
    async with contextlib.aclosing(places(registry, replicas, reconnect=30).of("edge-1")) as each:
        async with asyncio.timeout(10):
            async for place in each:
                if place is late.session:
                    return
    pytest.fail("the node was not met")


async def test_a_session_that_may_be_out_of_date_comes_last() -> None:
    registry = Registry()
    node = connected("edge-1")
    registry.add(node)
    found = places(registry, FakeReplicas(published_elsewhere=True))
    assert await first(found, 2) == [PEER, node.session]


async def test_an_address_is_that_of_the_node_here_or_elsewhere() -> None:
    registry, replicas = Registry(), FakeReplicas()
    found = places(registry, replicas)
    assert [found.name_at(each) for each in ("10.0.0.2", "10.0.0.9")] == ["edge-2", ""]
    registry.add(connected("edge-1", "10.0.0.1"))
    # Somebody's Node still has the address, but leads to nobody else, and is not connected here.
    assert found.name_at("10.0.0.1") == "edge-1"
    assert places(registry).name_at("10.0.0.1") == "edge-1"


async def test_an_address_that_several_nodes_have_is_refused_wherever_they_are() -> None:
    registry, replicas = Registry(), FakeReplicas()
    found = places(registry, replicas)
    sentence = r"the address 10.0.0.1 belongs to several nodes \(edge-1, edge-3\)"
    with pytest.raises(NodeUnknown, match=sentence):
        found.name_at("10.0.0.1")
    registry.add(connected("edge-1", "10.0.0.2"))
    with pytest.raises(NodeUnknown, match=r"\(edge-1, edge-2\)"):
        found.name_at("10.0.0.2")


async def test_it_is_known_who_is_here_or_published_elsewhere() -> None:
    registry = Registry()
    registry.add(connected("edge-1"))
    found = places(registry, FakeReplicas())
    assert [found.is_known(name) for name in ("edge-1", "edge-2", "edge-3")] == [True, True, False]
    assert not places(registry).is_known("edge-2")
