"""API servers' connections: requests in a row, at leisure, broken off."""

import asyncio
import os
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudLimits
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.integration.tunnel.life import (
    proxied,
    running,
)
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud
from tests.support.edge import connected_edge
from tests.support.stock_edge import KubeletCall, stock_edge
from tests.support.wait import until


async def test_requests_in_a_row_are_answered_in_turn(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(exchange.request.target.encode())

    async with connected_edge(cloud, serve), api_client(cloud) as client:
        for number in range(5):
            client.send("GET", f"/{number}", proxied(NODE))
        for number in range(5):
            assert (await client.answer()).body == f"/{number}".encode()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /pods HTTP/1.1\r\nHost:",
        b"POST /pods HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nnine",
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_request_that_never_comes_to_its_end_is_given_up(
    tmp_path: Path, sent: bytes
) -> None:
    async with (
        running(tmp_path, CloudDeadlines(request_head=0.2)) as cloud,
        api_client(cloud, None) as client,
    ):
        client.writer.write(sent)
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [b"\x80\x03\x00\x01\r\n\r\n", b"GET /\r\n\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"],
    ids=["SPDY", "no version", "no host"],
)
async def test_what_is_no_request_is_answered_and_closed(cloud: Cloud, sent: bytes) -> None:
    async with api_client(cloud) as client:
        client.writer.write(sent)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert answer.body.startswith(b"no usable HTTP request: ")
        assert await client.rest() == b""


async def test_a_client_that_takes_its_time_gets_the_whole_answer(tmp_path: Path) -> None:
    """It may take longer than idle connections are kept. The kernel can't hold all of it."""
    body = os.urandom(1 << 20) * 30

    async def kubelet(call: KubeletCall) -> None:
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        await call.write(body, size=1 << 20)

    loop = asyncio.get_running_loop()
    deadlines = CloudDeadlines(keep_alive=0.1, drain=0.5)
    limits = CloudLimits(channel_buffer_bytes=64 << 20)
    async with (
        running(tmp_path, deadlines, limits) as cloud,
        stock_edge(cloud, kubelet) as edge,
        api_client(cloud) as client,
    ):
        client.send("GET", "/stats/summary")
        await client.head()
        session = cloud.service.registry.by_name(NODE).session
        await until(lambda: (edge.live, session.channel_count) == (0, 0))
        ended = loop.time()
        await until(lambda: loop.time() > ended + 2)
        assert await client.receive(len(body)) == body
        assert await client.rest() == b""
