"""Requests of an API server through cloud, tunnel and edge, all in this process."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from streamkit.errors import LogUnavailable
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import connected_edge, until

MIB = 1 << 20
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))


@pytest.fixture
async def cloud(tmp_path: Path, library: str) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path / "pki") as running:
        yield running


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: 127.0.0.1:10351", *lines, "", "")).encode()


def upgrade(path: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1",
        "Host: api:6443",
        "Content-Length: 0",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        "X-Stream-Protocol-Version: v4.channel.k8s.io",
        "X-Stream-Protocol-Version: v3.channel.k8s.io",
    )
    return "\r\n".join((*head, "", "")).encode()


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    async with asyncio.timeout(10):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split()[1]), headers


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    async with asyncio.timeout(20):
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
        return body


async def test_log_is_complete_and_the_connection_serves_again(cloud: Cloud) -> None:
    text = os.urandom(300_000)

    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        for begin in range(0, len(text), 50_000):
            await exchange.write(text[begin : begin + 50_000])

    async with connected_edge(cloud, serve):
        reader, writer = await cloud.connect()
        for _ in range(3):
            writer.write(get("/containerLogs/default/pod/c?follow=true"))
            status, headers = await read_head(reader)
            assert status == 200
            assert "content-type" not in headers
            assert await read_body(reader, headers) == text
        writer.close()


@pytest.mark.parametrize(("size", "expected"), [(MIB - 1000, 200), (2 * MIB, 431)])
async def test_a_head_may_be_as_large_as_a_kubelets(cloud: Cloud, size: int, expected: int) -> None:
    async def serve(exchange: Exchange) -> None:
        (value,) = header_values(exchange.request.headers, "x-large")
        assert len(value) == size
        await exchange.send_head(ResponseHead(200))

    async with connected_edge(cloud, serve):
        reader, writer = await cloud.connect()
        writer.write(get("/metrics", f"X-Large: {'x' * size}"))
        status, _ = await read_head(reader)
        assert status == expected
        writer.close()


async def test_a_client_of_http_1_0_gets_no_chunks(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(b"one\n")
        await exchange.write(b"two\n")

    async with connected_edge(cloud, serve):
        reader, writer = await cloud.connect()
        writer.write(b"GET /containerLogs/default/pod/c HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        status, headers = await read_head(reader)
        assert (status, headers["connection"]) == (200, "close")
        assert not {"transfer-encoding", "content-length"} & headers.keys()
        async with asyncio.timeout(10):
            assert await reader.read() == b"one\ntwo\n"
        writer.close()


async def test_exec_relays_both_ways_and_keeps_bytes_behind_the_head(cloud: Cloud) -> None:
    seen: list[RequestHead] = []

    async def serve(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await exchange.send_head(SWITCH)
        while data := await exchange.read():
            await exchange.write(data)

    async with connected_edge(cloud, serve) as kubelet:
        reader, writer = await cloud.connect()
        payload = os.urandom(2_000_000)
        writer.write(upgrade("/exec/default/pod/c?command=a+b&command=&input=1") + payload[:100])
        status, headers = await read_head(reader)
        assert (status, headers["upgrade"]) == (101, "spdy/3.1")
        writer.write(payload[100:])
        async with asyncio.timeout(20):
            echoed = await reader.readexactly(len(payload))
        assert hashlib.sha256(echoed).digest() == hashlib.sha256(payload).digest()
        writer.close()
        await until(lambda: kubelet.live == 0)
    request = seen[0]
    assert request.target == "/exec/default/pod/c?command=a+b&command=&input=1"
    assert header_values(request.headers, "x-stream-protocol-version") == [
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
    ]


async def test_the_edges_status_reaches_the_caller(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        if "exec" in exchange.request.path:
            raise KubeletAnswer(500, 'container not found ("c")')
        raise KubeletAnswer(404, 'pod "pod" does not exist')

    async with connected_edge(cloud, serve):
        reader, writer = await cloud.connect()
        writer.write(get("/containerLogs/default/pod/c"))
        status, headers = await read_head(reader)
        # The API server swallows the body of a 404, so a log's error comes as a 400.
        assert (status, await read_body(reader, headers)) == (400, b'pod "pod" does not exist')
        writer.write(upgrade("/exec/default/pod/c?command=x&output=1"))
        status, headers = await read_head(reader)
        assert (status, await read_body(reader, headers)) == (500, b'container not found ("c")')
        writer.close()


async def test_a_log_that_breaks_off_never_looks_complete(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(b"one\n")
        raise LogUnavailable("the disk is gone")

    async with connected_edge(cloud, serve):
        reader, writer = await cloud.connect()
        writer.write(get("/containerLogs/default/pod/c"))
        await read_head(reader)
        async with asyncio.timeout(10):
            body = await reader.read()
        assert b"one\n" in body
        assert b"the disk is gone" in body
        assert not body.endswith(b"0\r\n\r\n")
        writer.close()


async def test_unconnected_node_is_named(cloud: Cloud) -> None:
    reader, writer = await cloud.connect()
    uri = "X-Forwarded-Uri: /api/v1/nodes/edge-9/proxy/pods"
    writer.write(get("/pods", uri))
    status, headers = await read_head(reader)
    answer = json.loads(await read_body(reader, headers))
    assert (status, answer["reason"], answer["code"]) == (503, "EdgeNodeOffline", 503)
    assert 'edge node "edge-9" is not connected' in answer["message"]
    writer.close()


async def test_only_api_servers_are_served(cloud: Cloud) -> None:
    for stem, expected in ((None, 401), ("edge-edge-1", 403)):
        reader, writer = await cloud.connect(stem)
        writer.write(get("/pods"))
        status, _ = await read_head(reader)
        assert status == expected
        writer.close()


async def test_a_lost_edge_ends_what_runs(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(SWITCH)
        await exchange.read()

    async with connected_edge(cloud, serve):
        reader, writer = await cloud.connect()
        writer.write(upgrade("/exec/default/pod/c?command=x&output=1"))
        await read_head(reader)
    async with asyncio.timeout(10):
        assert b"the session was lost: the edge closed the tunnel" in await reader.read()
    writer.close()
