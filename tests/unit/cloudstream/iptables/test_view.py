import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cloudstream.iptables.tool import Family
from cloudstream.iptables.view import ForwardingView, Scope, internal_addresses, parse_scope
from cloudstream.kube.port_record import ANNOTATION
from tests.support.kube_server import KubeServer, kube_server
from tests.support.wait import until

KEY = ("kubeedge", "tunnelport")
EDGE_ROLE = {"node-role.kubernetes.io/edge": ""}
NODES = [
    {"name": "edge-1", "address": "10.2.4.15", "labels": EDGE_ROLE},
    {"name": "edge-2", "address": "fd04::15", "labels": EDGE_ROLE},
    {"name": "edge-3", "labels": EDGE_ROLE},
    {"name": "master", "address": "10.2.0.12"},
]


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    async with kube_server(tmp_path, nodes=NODES) as running:
        yield running


def put_record(kube: KubeServer, record: Any) -> None:
    text = record if isinstance(record, str) else json.dumps(record)
    config_map = {"metadata": {"name": KEY[1], "annotations": {ANNOTATION: text}}}
    if KEY in kube.world.config_maps:
        kube.world.config_maps.replace(KEY, config_map)
    else:
        kube.world.config_maps.create(KEY[0], config_map)


@contextlib.asynccontextmanager
async def viewing(kube: KubeServer, scope: Scope | None = None) -> AsyncIterator[ForwardingView]:
    api = kube.api()
    view = ForwardingView(api, scope or Scope(), stream_port=10003, changed=lambda: None)
    task = asyncio.create_task(view.run())
    try:
        yield view
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
        await api.close()


def targets(view: ForwardingView, family: Family = Family.V4) -> list[tuple[str, str]]:
    """Destination and target of each rule."""
    rules = [line.split() for line in view.wanted()[family] if "DNAT" in line]
    return [(words[3] if "-d" in words else "any", words[-1]) for words in rules]


async def test_the_record_and_the_edge_nodes_make_the_rules(kube: KubeServer) -> None:
    put_record(kube, {"ipTunnelPort": {"10.2.0.12": 10351, "fd00::12": 10352}, "port": {}})
    async with viewing(kube) as view:
        assert "not read yet" in view.lacks
        await until(lambda: not view.lacks)
        assert targets(view) == [("10.2.4.15/32", "10.2.0.12:10003")]
        assert targets(view, Family.V6) == [("fd04::15/128", "[fd00::12]:10003")]
        assert view.problems() == []
        assert view.cloud_addresses() == ["10.2.0.12", "fd00::12"]


async def test_changes_are_followed(kube: KubeServer) -> None:
    put_record(kube, {"ipTunnelPort": {"10.2.0.12": 10351}, "port": {}})
    async with viewing(kube) as view:
        await until(lambda: not view.lacks)
        new = {"metadata": {"name": "edge-4", "labels": EDGE_ROLE}, "status": status("10.2.4.16")}
        kube.world.nodes.create("", new)
        await until(lambda: len(targets(view)) == 2)
        kube.world.nodes.delete(("", "edge-1"))
        await until(lambda: targets(view) == [("10.2.4.16/32", "10.2.0.12:10003")])
        put_record(kube, {"ipTunnelPort": {"10.2.0.13": 10352}, "port": {}})
        await until(lambda: targets(view) == [("10.2.4.16/32", "10.2.0.13:10003")])


@pytest.mark.parametrize("loss", ["{", "deleted", "away"])
async def test_what_was_known_outlives_a_broken_record_and_an_outage(
    kube: KubeServer, loss: str
) -> None:
    put_record(kube, {"ipTunnelPort": {"10.2.0.13": 10351}, "port": {}})
    async with viewing(kube) as view:
        await until(lambda: not view.lacks)
        put_record(kube, {"ipTunnelPort": {"10.2.0.12": 10351}, "port": {}})
        await until(lambda: targets(view) == [("10.2.4.15/32", "10.2.0.12:10003")])
        if loss == "deleted":
            kube.world.config_maps.delete(KEY)
            await until(lambda: view.problems() == ["there is no ConfigMap kubeedge/tunnelport"])
        elif loss == "away":
            await kube.stop()
        else:
            put_record(kube, loss)
            await until(lambda: any("is no JSON" in each for each in view.problems()))
        assert view.lacks == ""
        assert targets(view) == [("10.2.4.15/32", "10.2.0.12:10003")]


async def test_without_a_record_nothing_is_wanted_yet(kube: KubeServer) -> None:
    async with viewing(kube) as view:
        await until(lambda: view.lacks == "there is no ConfigMap kubeedge/tunnelport")
        put_record(kube, "nonsense")
        await until(lambda: "is no JSON" in view.lacks)


async def test_edge_nodes_in_the_record_are_left_out_and_told(kube: KubeServer) -> None:
    ports = {"10.2.4.15": 10350, "10.2.0.12": 10351, "x": 10352}
    put_record(kube, {"ipTunnelPort": ports, "port": {}})
    async with viewing(kube) as view:
        await until(lambda: not view.lacks)
        assert targets(view) == [("10.2.4.15/32", "10.2.0.12:10003")]
        problems = "\n".join(view.problems())
        assert "the record's keys 10.2.4.15 are edge nodes" in problems
        assert "the key 'x', which is no address" in problems


async def test_an_address_of_this_host_is_a_cloud_service_whoever_has_it_too(
    kube: KubeServer,
) -> None:
    new = {"metadata": {"name": "edge-0", "labels": EDGE_ROLE}, "status": status("127.0.0.1")}
    kube.world.nodes.create("", new)
    put_record(kube, {"ipTunnelPort": {"127.0.0.1": 10351}, "port": {}})
    async with viewing(kube) as view:
        await until(lambda: not view.lacks)
        assert ("127.0.0.1/32", "127.0.0.1:10003") in targets(view)


@pytest.mark.parametrize(
    ("scope", "destinations"),
    [("any", ["any"]), ("10.9.0.0/16, 10.8.0.1,fd09::/64", ["10.9.0.0/16", "10.8.0.1/32"])],
)
async def test_the_destinations_may_be_given(
    kube: KubeServer, scope: str, destinations: list[str]
) -> None:
    put_record(kube, {"ipTunnelPort": {"10.2.0.12": 10351}, "port": {}})
    async with viewing(kube, parse_scope(scope)) as view:
        await until(lambda: not view.lacks)
        assert targets(view) == [(each, "10.2.0.12:10003") for each in destinations]


def test_a_scope_is_read() -> None:
    assert parse_scope("nodes") == Scope()
    assert parse_scope("any") == Scope(any_address=True)
    assert parse_scope("10.0.0.1") == Scope((ip_network("10.0.0.1"),))
    for text in ("", "10.0.0.1/8", "edge", "any,nodes"):
        with pytest.raises(ValueError):
            parse_scope(text)


def status(*addresses: str) -> dict[str, Any]:
    return {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"status": status("10.0.0.1", "fd00::0:1", "x", "")}, ("10.0.0.1", "fd00::1")),
        ({"status": {"addresses": [{"type": "Hostname", "address": "10.0.0.1"}, "x"]}}, ()),
        ({"status": {"addresses": None}}, ()),
        ({}, ()),
    ],
)
def test_internal_addresses_of_a_node(node: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert internal_addresses(node) == expected
