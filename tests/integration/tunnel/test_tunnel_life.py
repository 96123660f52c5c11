"""Tunnels and requests that begin and end in every way."""

import asyncio
import contextlib
import gc
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudLimits
from edgestream.kubelet.exchange import Exchange
from streamkit.http.answer import encode_chunk
from streamkit.session.v1_cloud import V1CloudSession
from streamkit.wire.exchange import ResponseHead
from tests.integration.tunnel.life import (
    CHUNKED,
    LOGS,
    PORTS,
    echo,
    never,
    proxied,
    raw_echo,
    running,
    works,
)
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud
from tests.support.edge import connected_edge
from tests.support.frames import CLOSE
from tests.support.link import link_to
from tests.support.stock_edge import KubeletCall, stock_edge
from tests.support.wait import until

# -- tunnels come and go -----------------------------------------------------------------------


async def test_the_newest_tunnel_wins_and_outlives_the_older(cloud: Cloud) -> None:
    async with stock_edge(cloud, raw_echo) as older, api_client(cloud) as client:
        assert (await client.upgrade(PORTS)).status == 101
        await works(client)
        async with stock_edge(cloud, raw_echo, node_ip="10.0.0.2") as newer:
            await until(lambda: older.is_closed)
            (close,) = [each for each in older.control if each.opcode == CLOSE]
            assert close.close_code == 4001
            assert close.close_reason == 'a newer tunnel of node "edge-1" took over'
            assert await client.rest() == b""
            older.abort()
            async with api_client(cloud) as other:
                assert (await other.upgrade(PORTS, proxied(NODE))).status == 101
                await works(other)
                assert (older.live, newer.live) == (0, 1)
            node = cloud.service.registry.by_name(NODE)
            assert (len(cloud.service.registry), node.internal_ip) == (1, "10.0.0.2")
    await until(lambda: len(cloud.service.registry) == 0)


async def test_a_stopping_cloud_tells_its_edges_and_ends_its_callers(cloud: Cloud) -> None:
    async with (
        stock_edge(cloud, raw_echo) as edge,
        api_client(cloud) as client,
        api_client(cloud),
    ):
        await client.upgrade(PORTS)
        await works(client)
        cloud.task.cancel()
        await until(lambda: edge.is_closed)
        assert await client.rest() == b""
        assert [each.close_code for each in edge.control if each.opcode == CLOSE] == [1001]


@pytest.mark.parametrize("who", ["cloud", "edge"])
async def test_a_black_hole_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    """By the side whose deadline is the shorter one; the other one would wait for minutes."""
    patient, hasty = (300.0, 600.0), (0.1, 0.3)
    of_cloud, of_edge = (hasty, patient) if who == "cloud" else (patient, hasty)
    deadlines = CloudDeadlines(
        heartbeat=of_cloud[0], heartbeat_timeout=of_cloud[1], resume_timeout=0
    )
    caplog.set_level(logging.INFO)
    async with (
        running(tmp_path, deadlines) as cloud,
        link_to(cloud.tunnel_port) as link,
        connected_edge(
            cloud,
            echo,
            port=link.port,
            heartbeat=of_edge[0],
            silence=of_edge[1],
            resume_timeout=0,
        ) as kubelet,
        api_client(cloud) as client,
    ):
        await client.upgrade(PORTS)
        await works(client)
        link.swallow()
        await until(lambda: "was silent for" in caplog.text)
        if who == "cloud":
            assert await client.rest() == b""
            await until(lambda: cloud.service.registry.find(NODE) is None)
        else:
            await until(lambda: kubelet.live == 0)


# -- requests come and go ----------------------------------------------------------------------


async def test_a_caller_that_reads_nothing_costs_its_own_request_and_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def kubelet(call: KubeletCall) -> None:
        if call.path == PORTS:
            await raw_echo(call)
        await call.write(CHUNKED)
        while True:
            await call.write(encode_chunk(bytes(100_000)), size=100_000)
            await asyncio.sleep(0)

    limits = CloudLimits(channel_buffer_bytes=1 << 20)
    async with (
        running(tmp_path, limits=limits) as cloud,
        stock_edge(cloud, kubelet) as edge,
        api_client(cloud) as other,
        api_client(cloud) as stalled,
    ):
        await other.upgrade(PORTS)
        stalled.send("GET", LOGS)
        await stalled.head()
        await until(lambda: edge.live == 1, deadline=30)
        await works(other)
        assert edge.violations == []
        await until(lambda: cloud.service.registry.by_name(NODE).session.channel_count == 1)
        lines = [record.getMessage() for record in caplog.records if "stalled" in record.message]
        assert len(lines) == 1
        assert lines[0].startswith(f"GET {LOGS} from 127.0.0.1:")
        assert lines[0].endswith("the reader stalled and the peer can't be told to wait [KS3002]")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def nothing_left(cloud: Cloud, live: Callable[[], int]) -> AsyncIterator[None]:
    """Whatever the block begins has left no task, file or channel behind when it is over."""
    session = cloud.service.registry.by_name(NODE).session
    tasks, files = len(asyncio.all_tasks()), open_files()
    yield
    await until(lambda: (live(), session.channel_count) == (0, 0))
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    await until(lambda: open_files() <= files)
    if isinstance(session, V1CloudSession):
        assert list(session.mux.channel_ids) == []
    gc.collect()


ABORTS = 200


async def abort_requests(cloud: Cloud) -> None:
    """Requests of each kind, left at different moments."""
    for number in range(ABORTS):
        async with api_client(cloud) as client:
            if number % 2:
                client.send("GET", LOGS + "?follow=true")
            else:
                client.send(
                    "POST", PORTS, "Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0"
                )
            if number % 5:
                await client.head()
            if number % 3 == 0:
                client.writer.write(b"x" * number)


async def test_aborted_requests_leave_nothing_behind(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        if exchange.request.is_upgrade:
            await echo(exchange)
        await exchange.send_head(ResponseHead(200))
        await exchange.write(b"line\n")
        await never(exchange)

    async with connected_edge(cloud, serve) as kubelet, nothing_left(cloud, lambda: kubelet.live):
        await abort_requests(cloud)


async def test_aborted_requests_leave_nothing_behind_at_a_stock_edge(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        if call.path == PORTS:
            await raw_echo(call)
        await call.write(CHUNKED + encode_chunk(b"line\n"))
        await asyncio.Event().wait()

    async with stock_edge(cloud, kubelet) as edge, nothing_left(cloud, lambda: edge.live):
        await abort_requests(cloud)
        assert edge.violations == []


async def test_a_handler_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async with (
        running(tmp_path, CloudDeadlines(open=0.1)) as cloud,
        connected_edge(cloud, never) as kubelet,
        api_client(cloud) as client,
    ):
        answer = await client.get("/pods", proxied(NODE))
        status = json.loads(answer.body)
        assert (answer.status, status["reason"]) == (504, "Timeout")
        assert status["message"] == "the edge did not answer within 0.1 s [KS3003]"
        await until(lambda: kubelet.live == 0)
        assert (await client.get("/pods", proxied(NODE))).status == 504


async def test_no_more_requests_wait_than_may(tmp_path: Path) -> None:
    async with (
        running(tmp_path, limits=CloudLimits(max_pending_opens=2)) as cloud,
        connected_edge(cloud, never) as kubelet,
        api_client(cloud) as first,
        api_client(cloud) as second,
        api_client(cloud) as third,
    ):
        for client in (first, second):
            client.send("GET", "/pods", proxied(NODE))
        await until(lambda: kubelet.live == 2)
        answer = await third.get("/pods", proxied(NODE))
        status = json.loads(answer.body)
        assert (answer.status, status["reason"]) == (503, "TooManyRequests")
        assert status["message"].startswith("2 requests already wait for their edge's answer")
        first.abort()
        await until(lambda: kubelet.live == 1)
        third.send("GET", "/pods", proxied(NODE))
        await until(lambda: kubelet.live == 2)
