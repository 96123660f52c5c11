"""Requests with bodies, on their way to an edge."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloudstream.http_exchange import MAX_REQUEST_BODY
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead, header_values
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import connected_edge

LIMIT = 20.0


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path / "pki") as made:
        yield made


def proxied(node: str) -> str:
    return f"X-Forwarded-Uri: /api/v1/nodes/{node}/proxy/"


async def never(exchange: Exchange) -> None:
    raise AssertionError(f"nobody asks: {exchange.request}")


BODIES = {
    "of a length": (("Content-Length: 4",), b"body", b"body"),
    "in chunks": (("Transfer-Encoding: chunked",), b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", b"body"),
    "large": ((f"Content-Length: {MAX_REQUEST_BODY}",), bytes(MAX_REQUEST_BODY), None),
    "empty": (("Content-Length: 0",), b"", b""),
}


@pytest.mark.parametrize("name", BODIES)
async def test_the_body_of_a_request_reaches_the_edge(cloud: Cloud, name: str) -> None:
    async def serve(exchange: Exchange) -> None:
        lengths = header_values(exchange.request.headers, "content-length")
        body = bytearray()
        while data := await exchange.read():
            body += data
        assert lengths == [str(len(body))]
        await exchange.send_head(ResponseHead(200))
        await exchange.write(bytes(body))

    lines, sent, expected = BODIES[name]
    async with connected_edge(cloud, serve), api_client(cloud) as client:
        for _ in range(2):
            client.send("PUT", "/debug/flags/v", proxied(NODE), *lines)
            client.writer.write(sent)
            assert (await client.answer()).body == (sent if expected is None else expected)


async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        assert not header_values(exchange.request.headers, "expect")
        await exchange.send_head(ResponseHead(200))
        await exchange.write(await exchange.read())

    async with connected_edge(cloud, serve), api_client(cloud) as client:
        lines = ("Content-Length: 4", "Expect: 100-continue")
        client.send("POST", "/run/ns/web/app", proxied(NODE), *lines)
        async with asyncio.timeout(LIMIT):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        client.writer.write(b"body")
        assert (await client.answer()).body == b"body"


async def test_bodies_that_are_refused(cloud: Cloud) -> None:
    async with connected_edge(cloud, never):
        async with api_client(cloud) as client:
            lines = ("Content-Length: 4", "Connection: Upgrade", "Upgrade: SPDY/3.1")
            client.send("POST", "/exec/ns/web/app", proxied(NODE), *lines)
            client.writer.write(b"body")
            answer = await client.answer()
            assert (answer.status, b"for an upgrade has no body" in answer.body) == (400, True)
        async with api_client(cloud) as client:
            client.send("POST", "/run/ns/web/app", proxied(NODE), "Content-Length: 70000")
            client.writer.write(bytes(70_000))
            assert (await client.answer()).status == 413


async def test_v1_refuses_a_body_and_never_drops_it_silently(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudstream.tunnel_server.SUBPROTOCOL", "")
    async with connected_edge(cloud, never), api_client(cloud) as client:
        client.send("POST", "/run/ns/web/app", proxied(NODE), "Content-Length: 4")
        client.writer.write(b"body")
        answer = await client.answer()
        assert (answer.status, b"carries no bodies of requests" in answer.body) == (400, True)
        assert (await client.get("/run/ns/web/app", proxied("edge-9"))).status == 503
