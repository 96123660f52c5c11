"""Channels survive a lost tunnel, with no byte lost or repeated; past the limit they fail."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudSettings
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.integration.tunnel.test_end_to_end import SWITCH, get, read_body, read_head, upgrade
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import connected_edge, until
from tests.support.link import Link, link_to


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    deadlines = CloudDeadlines(heartbeat=0.5, heartbeat_timeout=1.0, resume_timeout=20)
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=deadlines)
    async with running_cloud(tmp_path / "pki", settings) as running:
        yield running


@pytest.fixture
async def link(cloud: Cloud) -> AsyncIterator[Link]:
    async with link_to(cloud.tunnel_port) as made:
        yield made


async def resumed(cloud: Cloud) -> None:
    await until(lambda: not cloud.service.registry.by_name(NODE).is_suspended)


async def lost(cloud: Cloud) -> None:
    await until(lambda: cloud.service.registry.by_name(NODE).is_suspended)


@pytest.mark.parametrize("way", ["cut", "swallow"])
async def test_a_download_survives(cloud: Cloud, link: Link, way: str) -> None:
    text = os.urandom(20_000_000)
    halfway = asyncio.Event()

    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        for begin in range(0, len(text), 40_000):
            await exchange.write(text[begin : begin + 40_000])
            if begin > len(text) // 2:
                halfway.set()

    async with connected_edge(cloud, serve, port=link.port):
        reader, writer = await cloud.connect()
        writer.write(get("/containerLogs/default/pod/c"))
        status, headers = await read_head(reader)
        body = asyncio.create_task(read_body(reader, headers))
        async with asyncio.timeout(20):
            await halfway.wait()
        getattr(link, way)()
        await lost(cloud)
        link.heal()
        assert status == 200
        received = await body
        assert hashlib.sha256(received).digest() == hashlib.sha256(text).digest()
        writer.close()


@pytest.mark.parametrize("way", ["cut", "swallow"])
async def test_an_upload_survives_many_cuts(cloud: Cloud, link: Link, way: str) -> None:
    payload = os.urandom(5_000_000)
    digest = hashlib.sha256()
    size = 0

    async def serve(exchange: Exchange) -> None:
        nonlocal size
        await exchange.send_head(SWITCH)
        while size < len(payload):
            data = await exchange.read()
            digest.update(data)
            size += len(data)
        await exchange.write(digest.digest())

    async with connected_edge(cloud, serve, port=link.port):
        reader, writer = await cloud.connect()
        writer.write(upgrade("/exec/default/pod/c?command=x&input=1"))
        await read_head(reader)
        for part in range(4):
            writer.write(payload[part * 1_250_000 : (part + 1) * 1_250_000])
            getattr(link, way)()
            await lost(cloud)
            link.heal()
            await resumed(cloud)
        async with asyncio.timeout(20):
            assert await reader.readexactly(32) == hashlib.sha256(payload).digest()
        writer.close()


async def test_a_request_during_the_cut_is_answered_after_it(cloud: Cloud, link: Link) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(b"here\n")

    async with connected_edge(cloud, serve, port=link.port):
        reader, writer = await cloud.connect()
        writer.write(get("/containerLogs/default/pod/c"))
        _, headers = await read_head(reader)
        assert await read_body(reader, headers) == b"here\n"
        link.cut()
        await lost(cloud)
        writer.write(get("/containerLogs/default/pod/c"))
        link.heal()
        _, headers = await read_head(reader)
        assert await read_body(reader, headers) == b"here\n"
        writer.close()


async def test_a_caller_that_leaves_during_the_cut_is_gone_after_it(
    cloud: Cloud, link: Link
) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(SWITCH)
        await exchange.read()

    async with connected_edge(cloud, serve, port=link.port) as kubelet:
        reader, writer = await cloud.connect()
        writer.write(upgrade("/exec/default/pod/c?command=x&output=1"))
        await read_head(reader)
        link.cut()
        await lost(cloud)
        writer.transport.abort()
        link.heal()
        await until(lambda: kubelet.live == 0)


async def test_a_cut_beyond_the_limit_ends_both_sides(tmp_path: Path) -> None:
    deadlines = CloudDeadlines(resume_timeout=0.2)
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=deadlines)

    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(b"one\n")
        await exchange.read()
        await asyncio.Future()

    async with (
        running_cloud(tmp_path / "pki", settings) as cloud,
        link_to(cloud.tunnel_port) as link,
        connected_edge(cloud, serve, port=link.port, resume_timeout=0.2) as kubelet,
    ):
        reader, writer = await cloud.connect()
        writer.write(get("/containerLogs/default/pod/c?follow=true"))
        await read_head(reader)
        link.cut()
        async with asyncio.timeout(10):
            body = await reader.read()
        assert b"did not come back within 0.2 s" in body
        assert not body.endswith(b"\r\n0\r\n\r\n")
        await until(lambda: kubelet.live == 0)
        writer.close()


async def test_a_restarted_edge_ends_what_the_old_one_ran(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(SWITCH)
        await exchange.read()

    async with link_to(cloud.tunnel_port) as link:
        async with connected_edge(cloud, serve, port=link.port):
            reader, writer = await cloud.connect()
            writer.write(upgrade("/exec/default/pod/c?command=x&output=1"))
            await read_head(reader)
            link.cut()
            await lost(cloud)
        async with connected_edge(cloud, serve), asyncio.timeout(10):
            await resumed(cloud)
            assert b"took over" in await reader.read()
        writer.close()
