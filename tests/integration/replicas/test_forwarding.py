"""Requests that reach a replica which does not hold the node's tunnel."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloudstream.kube.api import AsyncioKubeApi, JsonObject
from cloudstream.replicas.exchange import ReplicaChannel, ReplicaDialler
from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead, header_values
from tests.support.edge import Serve
from tests.support.kube_server import KubeServer, kube_server, running_pod
from tests.support.replicas import HOSTS, ReplicaPair, replica_pair
from tests.support.wait import until

NODES = ("edge-1", "edge-2")
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    nodes = [{"name": name, "address": "192.0.2.7", "port": 10250} for name in NODES]
    pods = [running_pod("web", "edge-1"), running_pod("db", "edge-2")]
    async with kube_server(tmp_path / "kube", nodes=nodes, pods=pods) as running:
        yield running


@pytest.fixture
async def pair(tmp_path: Path, kube: KubeServer) -> AsyncIterator[ReplicaPair]:
    async with replica_pair(tmp_path / "pki", kube, nodes=NODES) as running:
        yield running


def kubelet(node: str) -> Serve:
    """Says who it is; an upgraded stream is echoed."""

    async def serve(exchange: Exchange) -> None:
        assert not header_values(exchange.request.headers, "cloudstream-node")
        if exchange.request.is_upgrade:
            await exchange.send_head(ResponseHead(101, (*SWITCH.headers, ("Node", node))))
            while data := await exchange.read():
                await exchange.write(data)
            return
        if "missing" in exchange.request.target:
            raise KubeletAnswer(404, "no such container\n")
        await exchange.send_head(ResponseHead(200))
        await exchange.write(node.encode())

    return serve


async def test_either_replica_serves_a_node_of_the_other(pair: ReplicaPair) -> None:
    async with (
        pair.edge("edge-1", kubelet("edge-1"), index=0),
        pair.edge("edge-2", kubelet("edge-2"), index=1),
    ):
        for index in (0, 1):
            async with pair.client(index) as client:
                for pod, node in (("web", "edge-1"), ("db", "edge-2")):
                    answer = await client.get(f"/containerLogs/default/{pod}/c")
                    assert (answer.status, answer.body) == (200, node.encode())
                    uri = f"X-Forwarded-Uri: /api/v1/nodes/{node}/proxy/metrics"
                    answer = await client.get("/metrics", uri)
                    assert (answer.status, answer.body) == (200, node.encode())
                answer = await client.get("/containerLogs/default/db/missing")
                assert (answer.status, answer.body) == (400, b"no such container")


async def test_an_upgraded_stream_passes_byte_for_byte(pair: ReplicaPair) -> None:
    async with (
        pair.edge("edge-1", kubelet("edge-1"), index=0) as edge,
        pair.client(1) as client,
    ):
        early = os.urandom(1000)
        answer = await client.upgrade("/portForward/default/web", early=early)
        assert answer.status == 101
        payload = os.urandom(3_000_000)
        client.writer.write(payload)
        assert await client.receive(len(early) + len(payload)) == early + payload
        client.abort()
        await until(lambda: edge.live == 0)


async def test_the_body_of_a_request_goes_along(pair: ReplicaPair) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        while data := await exchange.read():
            await exchange.write(data)

    bodies = {
        "Content-Length: 4": b"body",
        "Transfer-Encoding: chunked": b"4\r\nbody\r\n0\r\n\r\n",
    }
    async with pair.edge("edge-1", echo, index=0), pair.client(1) as client:
        for line, sent in bodies.items():
            client.send("POST", "/run/default/web/c", line)
            client.writer.write(sent)
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, b"body")


async def test_a_reader_that_stalls_stops_the_source(pair: ReplicaPair) -> None:
    written = 0

    async def serve(exchange: Exchange) -> None:
        nonlocal written
        await exchange.send_head(ResponseHead(200))
        for _ in range(400):
            await exchange.write(bytes(256 * 1024))
            written += 256 * 1024

    async with pair.edge("edge-1", serve, index=0), pair.client(1) as client:
        client.send("GET", "/containerLogs/default/web/c")
        await client.head()
        seen = -1
        while seen != written:
            seen = written
            await asyncio.sleep(0.5)
        assert written < 60_000_000
        size = 0
        async with asyncio.timeout(30):
            while length := int(await client.reader.readuntil(b"\r\n"), 16):
                size += len(await client.reader.readexactly(length))
                await client.reader.readexactly(2)
        assert size == 400 * 256 * 1024


async def test_who_is_no_replica_gains_nothing_by_the_header(pair: ReplicaPair) -> None:
    async with (
        pair.edge("edge-1", kubelet("edge-1"), index=0),
        pair.edge("edge-2", kubelet("edge-2"), index=1),
    ):
        async with pair.client(0) as client:
            answer = await client.get("/containerLogs/default/web/c", "Cloudstream-Node: edge-2")
            assert answer.body == b"edge-1"
        async with pair.client(0, "edge-edge-1") as client:
            answer = await client.get("/containerLogs/default/web/c", "Cloudstream-Node: edge-1")
            assert (answer.status, b"may not call" in answer.body) == (403, True)
        # A replica's own certificate is good for requests that are passed on, and no others.
        async with pair.client(0, "stream") as client:
            answer = await client.get("/containerLogs/default/web/c")
            assert (answer.status, b"may not call" in answer.body) == (403, True)


async def test_what_is_passed_on_goes_no_further(pair: ReplicaPair) -> None:
    async with pair.edge("edge-2", kubelet("edge-2"), index=1), pair.client(0, "stream") as client:
        answer = await client.get("/containerLogs/default/db/c", "Cloudstream-Node: edge-2")
        assert answer.status == 500
        assert b"is not connected to this replica [KS4004]" in answer.body
        assert answer.headers["cloudstream-not-here"] == "true"
        # Whoever asked will answer the caller, log it and count it.
        assert not pair.clouds[0].service._streams.tally.ended


async def test_two_that_take_each_other_for_the_owner_do_not_ask_in_circles(
    pair: ReplicaPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    start = ReplicaDialler.start

    def counting(self: ReplicaDialler, channel: ReplicaChannel, host: str, port: int) -> None:
        asked.append(host)
        start(self, channel, host, port)

    monkeypatch.setattr(ReplicaDialler, "start", counting)
    for cloud, other in zip(pair.clouds, reversed(HOSTS), strict=True):
        replicas = cloud.service._replicas
        assert replicas
        replicas._learned["edge-1"] = (other, pair.stream_port)
    async with pair.client(0) as client:
        answer = await client.get("/containerLogs/default/web/c")
        assert b'edge node "edge-1" is not connected [KS4004]' in answer.body
    assert set(asked) == {HOSTS[1]}
    assert len(asked) < 10


async def test_a_node_that_nobody_holds_is_told_so(pair: ReplicaPair) -> None:
    async with pair.client(0) as client:
        answer = await client.get("/containerLogs/default/web/c")
        assert answer.status == 500
        assert b'edge node "edge-1" is not connected [KS4004]' in answer.body


async def test_a_log_that_breaks_off_says_so_once(pair: ReplicaPair) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(b"a line\n")
        await asyncio.get_running_loop().create_future()

    async with pair.client(1) as client:
        async with pair.edge("edge-1", serve, index=0):
            client.send("GET", "/containerLogs/default/web/c?follow=true")
            await client.head()
            await client.reader.readuntil(b"a line")
        rest = await client.rest()
        assert rest.count(b"[KS") == 1
        assert b"broke the answer off [KS3004]" in rest


@pytest.mark.parametrize("held_by", [(0, 0), (0, 1)], ids=["one replica", "two replicas"])
async def test_nodes_with_one_address_are_told_apart(
    pair: ReplicaPair, held_by: tuple[int, int]
) -> None:
    async with (
        pair.edge("edge-1", kubelet("edge-1"), index=held_by[0]),
        pair.edge("edge-2", kubelet("edge-2"), index=held_by[1]),
    ):
        for index in (0, 1):
            for pod, node in (("web", "edge-1"), ("db", "edge-2")):
                async with pair.client(index) as client:
                    answer = await client.get(f"/containerLogs/default/{pod}/c")
                    assert answer.body.decode() == node
                    for path in ("/stats/summary", "/containerLogs/default/web/c"):
                        uri = f"X-Forwarded-Uri: /api/v1/nodes/{node}/proxy{path}"
                        assert (await client.get(path, uri)).body.decode() == node
                for kind in ("exec", "attach", "portForward"):
                    async with pair.client(index) as client:
                        answer = await client.upgrade(f"/{kind}/default/{pod}/c?command=x")
                        assert (answer.status, answer.headers["node"]) == (101, node)
        # The address alone does not say which: none of them may answer.
        await until(lambda: pair.names_at("192.0.2.7") == [{"edge-1", "edge-2"}] * 2)
        for index in (0, 1):
            async with pair.client(index) as client:
                client.host = "192.0.2.7:10351"
                answer = await client.get("/metrics")
                assert answer.status == 404
                assert b"belongs to several nodes (edge-1, edge-2) [KS4005]" in answer.body


async def test_a_node_that_is_asked_for_by_its_address_is_found_at_the_other(
    pair: ReplicaPair,
) -> None:
    async with pair.edge("edge-1", kubelet("edge-1"), index=0):
        await until(lambda: pair.names_at("192.0.2.7") == [{"edge-1"}] * 2)
        for index in (0, 1):
            async with pair.client(index) as client:
                client.host = "192.0.2.7:10351"
                assert (await client.get("/metrics")).body == b"edge-1"


async def test_a_thousand_logs_of_the_others_pods_are_few_questions(
    pair: ReplicaPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    request = AsyncioKubeApi.request

    async def counting(self: AsyncioKubeApi, method: str, path: str, **more: Any) -> JsonObject:
        asked.append(path)
        return await request(self, method, path, **more)

    async with pair.edge("edge-1", kubelet("edge-1"), index=0):
        await until(lambda: pair.published("edge-1") == pair.record()["ipTunnelPort"]["127.0.0.2"])
        monkeypatch.setattr(AsyncioKubeApi, "request", counting)
        async with pair.client(1) as client:
            for _ in range(200):
                assert (await client.get("/containerLogs/default/web/c")).body == b"edge-1"
    assert len([path for path in asked if "/pods" in path]) <= 4
