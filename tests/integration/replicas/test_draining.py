"""Two replicas, of which one is drained and then gone."""

import asyncio
import contextlib
import os
import random
from pathlib import Path

from cloudstream.config import CloudDeadlines
from edgestream.kubelet.exchange import Exchange
from streamkit.errors import ReplicaUnreachable
from streamkit.wire.exchange import ResponseHead
from tests.support.edge import Serve
from tests.support.kube_server import kube_server, running_pod
from tests.support.replicas import HOSTS, ReplicaPair, replica_pair
from tests.support.wait import until

NODES = tuple(f"edge-{number}" for number in range(20))
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
LOG = b"a line of a finite log\n" * 1000
REQUESTS = 200
"""Of all kinds, to nodes at random."""
AT_ONCE = 10


def kubelet(node: str) -> Serve:
    async def serve(exchange: Exchange) -> None:
        if exchange.request.is_upgrade:
            await exchange.send_head(SWITCH)
            await exchange.write(node.encode())
            while data := await exchange.read():
                await exchange.write(data)
            return
        await exchange.send_head(ResponseHead(200))
        await exchange.write(node.encode())
        if exchange.request.path.startswith("/containerLogs"):
            await exchange.write(LOG)

    return serve


async def ask(pair: ReplicaPair, node: str, kind: str) -> None:
    """One request on a connection of its own; an upgraded one talks and leaves."""
    async with pair.client() as client:
        if kind == "log":
            answer = await client.get(f"/containerLogs/default/pod-{node}/c")
            assert (answer.status, answer.is_complete) == (200, True), answer.body
            assert answer.body == node.encode() + LOG
        elif kind == "proxy":
            uri = f"X-Forwarded-Uri: /api/v1/nodes/{node}/proxy/metrics"
            answer = await client.get("/metrics", uri)
            assert (answer.status, answer.body) == (200, node.encode()), answer.body
        else:
            answer = await client.upgrade(f"/{kind}/default/pod-{node}/c?command=x")
            assert answer.status == 101, answer.body
            data = os.urandom(50_000)
            client.writer.write(data)
            assert await client.receive(len(node) + len(data)) == node.encode() + data


async def mixed(pair: ReplicaPair, amount: int) -> None:
    """So many requests, ten at a time. The first that fails ends it."""
    chosen = random.Random(amount)
    kinds = ("log", "proxy", "exec", "attach", "portForward")
    left = iter([(chosen.choice(NODES), chosen.choice(kinds)) for _ in range(amount)])

    async def caller() -> None:
        for node, kind in left:
            await ask(pair, node, kind)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())


async def test_replicas_know_of_each_other_whether_they_take_edges(tmp_path: Path) -> None:
    async with (
        kube_server(tmp_path / "kube") as kube,
        replica_pair(tmp_path / "pki", kube, nodes=()) as pair,
    ):
        first, second = (cloud.service._replicas for cloud in pair.clouds)
        assert first
        assert second
        assert await first.is_any_serving()
        assert await second.is_any_serving()
        pair.clouds[1].service._streams.leave_soon()
        assert not await first.is_any_serving()
        await pair.stop(1)
        assert not await first.is_any_serving()


async def test_a_replica_that_was_away_is_asked_again_when_it_answers(tmp_path: Path) -> None:
    nodes = [{"name": "edge-1", "address": "192.0.2.7", "port": 10250}]
    async with (
        kube_server(tmp_path / "kube", nodes=nodes, pods=[running_pod("web", "edge-1")]) as kube,
        replica_pair(tmp_path / "pki", kube, nodes=["edge-1"]) as pair,
        pair.edge("edge-1", kubelet("edge-1"), index=0),
        pair.client(1) as client,
    ):
        replicas = pair.clouds[1].service._replicas
        assert replicas
        for place in replicas.candidates("edge-1"):
            place.told(ReplicaUnreachable("it can't be reached"))
        assert not replicas.candidates("edge-1")
        await until(lambda: bool(replicas.candidates("edge-1")))
        answer = await client.get("/containerLogs/default/web/c")
        assert answer.body == b"edge-1" + LOG


async def test_no_request_fails_by_a_drain(tmp_path: Path) -> None:
    nodes = [{"name": name, "address": "192.0.2.7", "port": 10250} for name in NODES]
    pods = [running_pod(f"pod-{name}", name) for name in NODES]
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(
            kube_server(tmp_path / "kube", nodes=nodes, pods=pods)
        )
        pair = await stack.enter_async_context(
            replica_pair(
                tmp_path / "pki", kube, nodes=NODES, deadlines=CloudDeadlines(drain=20, close=0.5)
            )
        )
        for name in NODES:
            await stack.enter_async_context(pair.edge(name, kubelet(name)))
        assert pair.nodes_of(0)
        assert pair.nodes_of(1)
        await mixed(pair, REQUESTS)

        loop = asyncio.get_running_loop()
        began = loop.time()
        stopping = asyncio.create_task(pair.stop(0))
        asking = asyncio.create_task(mixed(pair, REQUESTS))
        await until(lambda: pair.nodes_of(1) == set(NODES))
        assert loop.time() - began < 10
        await stopping
        await asking
        await mixed(pair, 20)
        ports = pair.record()["ipTunnelPort"]
        assert set(ports) == set(HOSTS)
        assert {pair.published(name) for name in NODES} == {ports[HOSTS[1]]}
