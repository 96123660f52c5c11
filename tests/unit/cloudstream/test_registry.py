import asyncio

import pytest

from cloudstream.registry import Registry
from streamkit.errors import NodeNotConnected, NodeUnknown, TunnelClosed, TunnelReplaced
from tests.unit.cloudstream.nodes import FakeTunnel, connected


def test_nodes_are_found_by_name_and_by_address() -> None:
    registry = Registry()
    one, two = connected("edge-1", "10.0.0.1"), connected("edge-2", "fd00::2")
    registry.add(one)
    registry.add(two)
    assert (registry.by_name("edge-1"), registry.find("edge-2")) == (one, two)
    assert (registry.by_address("10.0.0.1"), registry.by_address("fd00::2")) == (one, two)
    assert registry.by_address("10.0.0.9") is None
    assert (len(registry), registry.nodes()) == (2, [one, two])


def test_an_unknown_node_is_named() -> None:
    registry = Registry()
    assert registry.find("edge-9") is None
    with pytest.raises(NodeNotConnected, match='edge node "edge-9" is not connected'):
        registry.by_name("edge-9")


def test_an_address_of_several_nodes_says_nothing() -> None:
    registry = Registry()
    registry.add(connected("edge-2"))
    registry.add(connected("edge-1"))
    with pytest.raises(NodeUnknown, match=r"10\.0\.0\.1 belongs to several nodes \(edge-1, edge-2"):
        registry.by_address("10.0.0.1")


def test_the_newest_tunnel_wins_and_the_olders_teardown_leaves_it_alone() -> None:
    registry = Registry()
    old_tunnel = FakeTunnel()
    old = connected("edge-1", tunnel=old_tunnel, ended=registry.remove)
    new = connected("edge-1", ended=registry.remove)
    registry.add(old)
    registry.add(new)
    (error,) = old_tunnel.closed
    assert isinstance(error, TunnelReplaced)
    assert 'a newer tunnel of node "edge-1" took over' in str(error)
    registry.remove(old)
    old.close(TunnelClosed("late"))
    assert registry.by_name("edge-1") is new
    new.close(TunnelClosed("gone"))
    registry.remove(new)
    assert len(registry) == 0


async def test_a_node_that_comes_back_in_time_is_waited_for() -> None:
    registry = Registry()
    waiting = [asyncio.ensure_future(registry.awaited("edge-1", within=30)) for _ in range(2)]
    while len(registry._awaited.get("edge-1", ())) < 2:
        await asyncio.sleep(0)
    registry.add(connected("edge-2"))
    waiting.pop().cancel()
    node = connected("edge-1")
    registry.add(node)
    async with asyncio.timeout(5):
        assert await waiting[0] is node
        assert await registry.awaited("edge-1", within=30) is node
    assert registry._awaited == {}


async def test_a_node_that_does_not_come_back_is_refused() -> None:
    registry = Registry()
    async with asyncio.timeout(5):
        with pytest.raises(NodeNotConnected):
            await registry.awaited("edge-1", within=0.01)
    assert registry._awaited == {}
