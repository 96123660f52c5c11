"""Node proxy: targets, headers, answers, names."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from lab.apiserver.config import Config
from tests.unit.lab.apiserver_kit import (
    LIMIT,
    NODE_IP,
    Exchange,
    FakeKubelet,
    Keys,
    RestClient,
    Script,
    api_server,
    edge_config,
    fake_kubelet,
    make_config,
    raw_client,
    rest_client,
)

PROXY = "/api/v1/nodes/edge-1/proxy"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n"


@asynccontextmanager
async def scene(
    keys: Keys, script: Script, config: Config | None = None
) -> AsyncIterator[tuple[FakeKubelet, RestClient]]:
    async with (
        fake_kubelet(keys, script) as kubelet,
        api_server(config or edge_config(keys, kubelet.port)) as url,
        rest_client(keys, url) as rest,
    ):
        yield kubelet, rest


async def say_ok(exchange: Exchange) -> None:
    await exchange.reply(200, b"ok")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"{PROXY}/healthz", "/healthz"),
        (f"{PROXY}/pods/", "/pods/"),
        (f"{PROXY}/nosuch/path%20x?a=b%26c", "/nosuch/path%20x?a=b%26c"),
        (f"{PROXY}/", "/"),
        (PROXY, "/"),
        ("/api/v1/nodes/edge-1:10351/proxy/healthz", "/healthz"),
        ("/api/v1/nodes/https:edge-1:10351/proxy/healthz", "/healthz"),
    ],
)
async def test_the_path_goes_on_as_it_is(keys: Keys, path: str, target: str) -> None:
    async with scene(keys, say_ok) as (kubelet, rest):
        assert (await rest.raw("GET", path))[:2] == (200, b"ok")
        assert kubelet.seen[0].target == target
        assert kubelet.seen[0].values("X-Forwarded-Uri") == [path.partition("?")[0]]


async def test_headers_arrive_in_gos_order(keys: Keys) -> None:
    async with scene(keys, say_ok) as (kubelet, rest), raw_client(keys, rest.url) as streams:
        reader, writer = streams
        lines = [
            f"GET {PROXY}/pods HTTP/1.1",
            "accept: */*",
            "Host: api.lab:6443",
            "Authorization: Bearer secret",
            "User-Agent: curl/7.88.1",
            "Accept-Encoding: gzip",
            "X-Forwarded-For: 9.9.9.9",
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b"ok")
        assert kubelet.seen[0].headers == [
            ("Host", "api.lab:6443"),
            ("User-Agent", "curl/7.88.1"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "gzip"),
            ("X-Forwarded-For", "9.9.9.9, 127.0.0.1"),
            ("X-Forwarded-Uri", f"{PROXY}/pods"),
        ]


async def test_a_body_goes_on_too(keys: Keys) -> None:
    async with scene(keys, say_ok) as (kubelet, rest):
        await rest.raw("POST", f"{PROXY}/run/default/single/app?cmd=ls", data=b"a=b")
        assert kubelet.seen[0].first_line == "POST /run/default/single/app?cmd=ls HTTP/1.1"
        assert kubelet.seen[0].body == b"a=b"


async def test_what_the_client_can_unpack_stays_packed(keys: Keys) -> None:
    packed = gzip.compress(b"up 1\n")

    async def pack(exchange: Exchange) -> None:
        await exchange.reply(200, packed, ("Content-Encoding", "gzip"))

    async with scene(keys, pack) as (_, rest):
        _, body, headers = await rest.raw("GET", f"{PROXY}/metrics")
        assert (body, headers["Content-Length"]) == (b"up 1\n", str(len(packed)))


async def test_answers_pass_with_their_status_and_headers(keys: Keys) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(301, b"", ("Location", "/logs/"), ("X-Note", "kept"))

    async with scene(keys, refuse) as (_, rest):
        status, _, headers = await rest.raw("GET", f"{PROXY}/logs", allow_redirects=False)
        assert (status, headers["X-Note"]) == (301, "kept")
        assert headers["Location"] == f"{PROXY}/logs/"


async def test_an_answer_that_breaks_off_is_broken_off(keys: Keys) -> None:
    async def break_off(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        exchange.writer.close()

    async with scene(keys, break_off) as (_, rest):
        with pytest.raises(aiohttp.ClientError):
            await rest.raw("GET", f"{PROXY}/pods")


async def test_an_unreachable_node_is_a_service_unavailable(
    keys: Keys, unused_tcp_port: int
) -> None:
    async with scene(keys, say_ok, edge_config(keys, unused_tcp_port)) as (_, rest):
        status, document = await rest("GET", f"{PROXY}/pods")
        words = f"dial tcp {NODE_IP}:10351: connect: connection refused"
        assert (status, document["reason"]) == (503, "ServiceUnavailable")
        assert document["message"] == f"error trying to reach service: {words}"


async def test_an_unknown_node(keys: Keys) -> None:
    async with scene(keys, say_ok) as (_, rest):
        status, document = await rest("GET", "/api/v1/nodes/none/proxy/pods")
        assert (status, document["message"]) == (404, 'nodes "none" not found')


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.7.7", "0.0.0.0"])
async def test_addresses_that_are_not_global_are_refused(keys: Keys, address: str) -> None:
    config = make_config(keys, nodes=[{"name": "edge-1", "address": address}])
    async with scene(keys, say_ok, config) as (_, rest):
        status, document = await rest("GET", f"{PROXY}/healthz")
        assert (status, document["message"]) == (400, "address not allowed")


async def test_an_upgrade_goes_on_without_its_query(keys: Keys) -> None:
    async def switch(exchange: Exchange) -> None:
        await exchange.send(SWITCH + b"bytes")
        exchange.writer.close()

    async with scene(keys, switch) as (kubelet, rest), raw_client(keys, rest.url) as streams:
        reader, writer = streams
        lines = [
            f"POST {PROXY}/exec/default/single/app?command=id&output=1 HTTP/1.1",
            "Host: api.lab",
            "Connection: Upgrade",
            "Upgrade: SPDY/3.1",
            "Content-Length: 0",
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(LIMIT):
            assert await reader.read(-1) == SWITCH + b"bytes"
        assert kubelet.seen[0].first_line == "POST /exec/default/single/app HTTP/1.1"
        assert kubelet.seen[0].values("X-Forwarded-Uri") == []
