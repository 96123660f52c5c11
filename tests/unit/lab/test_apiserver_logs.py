"""Log requests: what the kubelet gets, what the client gets, over which connections."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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

PODS = "/api/v1/namespaces/default/pods"
LOG = f"{PODS}/single/log"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = "net/http: HTTP/1.x transport connection broken"
INVALID = 'PodLogOptions "single" is invalid: '
ONE_OF_TWO = "at most one of `sinceTime` or `sinceSeconds` may be specified"
TOO_SMALL = "Invalid value: 0: must be greater than 0"
PORT = f"{NODE_IP}:10351"


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


async def one_line(exchange: Exchange) -> None:
    await exchange.send(CHUNKED + b"6\r\nhello\n\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("", ""),
        ("?container=app&follow=false&previous=0&pretty=true", ""),
        (
            "?follow=true&tailLines=5&sinceSeconds=600&timestamps=true&limitBytes=2048",
            "?follow=true&limitBytes=2048&sinceSeconds=600&tailLines=5&timestamps=true",
        ),
        ("?previous=true&tailLines=0", "?previous=true&tailLines=0"),
        (
            "?sinceTime=2026-11-24T21:00:00.5%2B01:00",
            "?sinceTime=2026-11-24T20%3A00%3A00Z",
        ),
        ("?insecureSkipTLSVerifyBackend=true", ""),
    ],
)
async def test_the_kubelet_gets_the_recorded_request(keys: Keys, query: str, target: str) -> None:
    async with scene(keys, one_line) as (kubelet, rest):
        status, body, headers = await rest.raw("GET", LOG + query)
        assert (status, body, headers["Content-Type"]) == (200, b"hello\n", "text/plain")
        assert kubelet.seen[0].first_line == (
            f"GET /containerLogs/default/single/app{target} HTTP/1.1"
        )
        assert kubelet.seen[0].headers == [
            ("Host", PORT),
            ("User-Agent", "Go-http-client/1.1"),
            ("Accept-Encoding", "gzip"),
        ]
        assert kubelet.seen[0].client_name == "kube-apiserver-kubelet-client"


async def test_connections_are_used_again(keys: Keys) -> None:
    async with scene(keys, one_line) as (kubelet, rest):
        for _ in range(3):
            assert (await rest.raw("GET", LOG))[0] == 200
        assert [each.connection for each in kubelet.seen] == [1, 1, 1]


async def test_a_connection_that_died_in_the_pool_does_no_harm(keys: Keys) -> None:
    async def answer_then_close_on_the_next(exchange: Exchange) -> None:
        if exchange.connection == 1 and len(kubelet.seen) > 1:
            exchange.writer.close()
        else:
            await one_line(exchange)

    async with scene(keys, answer_then_close_on_the_next) as (kubelet, rest):
        assert (await rest.raw("GET", LOG))[1] == b"hello\n"
        assert (await rest.raw("GET", LOG))[1] == b"hello\n"
        assert [each.connection for each in kubelet.seen] == [1, 1, 2]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (f"{PODS}/none/log", 404, 'pods "none" not found'),
        (f"{PODS}/lost/log", 404, 'pods "edge-9" not found'),
        (f"{LOG}?container=zzz", 400, "container zzz is not valid for pod single"),
        (
            f"{PODS}/double/log",
            400,
            "a container name must be specified for pod double, choose one of: [app side]",
        ),
        (
            f"{LOG}?tailLines=-3",
            422,
            "tailLines: Invalid value: -3: must be greater than or equal to 0",
        ),
        (
            f"{LOG}?limitBytes=0&sinceSeconds=0",
            422,
            f"[limitBytes: {TOO_SMALL}, sinceSeconds: {TOO_SMALL}]",
        ),
        (
            f"{LOG}?sinceSeconds=1&sinceTime=2026-11-24T20:00:00Z",
            422,
            f"sinceSeconds: Forbidden: {ONE_OF_TWO}",
        ),
        (f"{LOG}?tailLines=many", 400, "tailLines: 'many' is not a number"),
        (f"{LOG}?sinceTime=noon", 400, "sinceTime: 'noon' is not a time"),
    ],
)
async def test_what_never_reaches_the_kubelet(
    keys: Keys, path: str, status: int, message: str
) -> None:
    async with scene(keys, one_line) as (kubelet, rest):
        got, document = await rest("GET", path)
        assert (got, document["code"]) == (status, status)
        assert document["message"].removeprefix(INVALID) == message
        assert kubelet.seen == []


async def test_a_pod_without_a_node_has_an_empty_log(keys: Keys) -> None:
    async with scene(keys, one_line) as (kubelet, rest):
        assert (await rest.raw("GET", f"{PODS}/waiting/log"))[:2] == (200, b"")
        assert kubelet.seen == []


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, 400, "no such log\n"),
        (500, 500, "Internal error occurred: no such log\n"),
        (404, 404, "the server could not find the requested resource ( pods/log single)"),
        (302, 500, 'Get "/elsewhere": redirects forbidden'),
    ],
)
async def test_refusals_are_rewritten(keys: Keys, status: int, code: int, message: str) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(status, b"no such log\n", ("Location", "/elsewhere"))

    async with scene(keys, refuse) as (_, rest):
        got, document = await rest("GET", LOG)
        assert (got, document["message"]) == (code, message)


async def test_a_packed_answer_is_unpacked(keys: Keys) -> None:
    async def pack(exchange: Exchange) -> None:
        await exchange.reply(200, gzip.compress(b"hello\n"), ("Content-Encoding", "gzip"))

    async with scene(keys, pack) as (_, rest):
        assert (await rest.raw("GET", LOG))[1] == b"hello\n"


async def test_a_log_that_breaks_off_just_ends(keys: Keys) -> None:
    async def break_off(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + b"6\r\nhello\n\r\n6\r\nhel")
        exchange.writer.close()

    async with scene(keys, break_off) as (_, rest):
        assert (await rest.raw("GET", LOG))[:2] == (200, b"hello\nhel")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\nTrans", "unexpected EOF"),
        (
            b"\x00\x01garbage\r\n\r\n",
            f'{BROKEN}: malformed HTTP response "\\x00\\x01garbage"',
        ),
    ],
)
async def test_a_kubelet_that_gives_no_answer(keys: Keys, answer: bytes, words: str) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.send(answer)
        exchange.writer.close()

    async with scene(keys, fail) as (_, rest):
        status, document = await rest("GET", LOG)
        url = f"https://{PORT}/containerLogs/default/single/app"
        assert (status, document["message"]) == (500, f'Get "{url}": {words}')
        assert "reason" not in document


async def test_a_kubelet_that_cannot_be_reached(keys: Keys, unused_tcp_port: int) -> None:
    config = edge_config(keys, unused_tcp_port)
    async with scene(keys, one_line, config) as (_, rest):
        _, document = await rest("GET", f"{LOG}?follow=true")
        url = f"https://{PORT}/containerLogs/default/single/app?follow=true"
        words = f"dial tcp {PORT}: connect: connection refused"
        assert document["message"] == f'Get "{url}": {words}'


async def test_a_node_without_an_address(keys: Keys) -> None:
    pods = [{"metadata": {"name": "single"}, "spec": {"nodeName": "edge-1"}}]
    config = make_config(keys, nodes=[{"name": "edge-1"}], pods=pods)
    async with scene(keys, one_line, config) as (_, rest):
        _, document = await rest("GET", LOG)
        assert document["message"] == (
            "no preferred addresses found; known addresses: [{Hostname edge-1}]"
        )


async def test_the_kubelets_certificate_is_verified_if_asked_for(keys: Keys) -> None:
    async with fake_kubelet(keys, one_line) as kubelet:
        tls = {**keys.pair("apiserver-client"), "ca": str(keys.ca_file)}
        for address, verified in ((NODE_IP, True), ("10.99.0.2", False)):
            node = {
                "name": "edge-1",
                "address": address,
                "dial": f"127.0.0.1:{kubelet.port}",
            }
            config = edge_config(keys, kubelet.port, kubelet=tls, nodes=[node])
            async with api_server(config) as url, rest_client(keys, url) as rest:
                status, body, _ = await rest.raw("GET", LOG)
                assert (status == 200) is verified
                assert (b"x509: cannot validate certificate" in body) is not verified
                path = f"{LOG}?insecureSkipTLSVerifyBackend=true"
                assert (await rest.raw("GET", path))[0] == 200


async def test_each_record_is_passed_on_at_once_and_the_client_may_leave(keys: Keys) -> None:
    proceed, gone = asyncio.Event(), asyncio.Event()

    async def follow(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + b"4\r\none\n\r\n")
        await proceed.wait()
        await exchange.send(b"4\r\ntwo\n\r\n")
        assert await exchange.reader.read() == b""
        gone.set()

    async with scene(keys, follow) as (_, rest), raw_client(keys, rest.url) as (reader, writer):
        async with asyncio.timeout(LIMIT):
            writer.write(f"GET {LOG}?follow=true HTTP/1.1\r\nHost: api\r\n\r\n".encode())
            assert b"one\n" in await reader.readuntil(b"one\n")
            proceed.set()
            assert b"two\n" in await reader.readuntil(b"two\n")
            writer.close()
            await gone.wait()


async def test_a_client_that_leaves_before_the_answer_is_noticed(keys: Keys) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def say_nothing(exchange: Exchange) -> None:
        asked.set()
        assert await exchange.reader.read() == b""
        gone.set()

    async with scene(keys, say_nothing) as (_, rest), raw_client(keys, rest.url) as (_, writer):
        async with asyncio.timeout(LIMIT):
            writer.write(f"GET {LOG} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
            await asked.wait()
            writer.transport.abort()
            await gone.wait()
