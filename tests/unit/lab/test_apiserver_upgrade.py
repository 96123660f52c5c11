"""exec, attach and port-forward: heads, bytes in both directions, endings, refusals."""

import asyncio
import json
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
    Script,
    api_server,
    edge_config,
    fake_kubelet,
    raw_client,
)

PODS = "/api/v1/namespaces/default/pods"
EXEC = f"{PODS}/single/exec?command=sh&container=app&stdout=true"
THREE_STREAMS = "stdin=true&stdout=true&stderr=true"
PORT = f"{NODE_IP}:10351"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
SPDY = (
    ("X-Stream-Protocol-Version", "v5.channel.k8s.io"),
    ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ("Upgrade", "SPDY/3.1"),
    ("Connection", "Upgrade"),
)
WEBSOCKET = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
)


def head(method: str, target: str, *headers: tuple[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: api.lab:6443", "User-Agent: kubectl/v1.33.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    if method == "POST":
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""]).encode()


class Client:
    """A client's end: the answer's head as text, then bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes) -> bytes:
        self.writer.write(request)
        async with asyncio.timeout(LIMIT):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def refused(self, request: bytes) -> tuple[int, str]:
        """The status and the message of the Status object that was the answer."""
        lines = (await self.ask(request)).decode().split("\r\n")
        length = next(line for line in lines if line.lower().startswith("content-length: "))
        async with asyncio.timeout(LIMIT):
            body = await self.reader.readexactly(int(length.partition(": ")[2]))
        message: str = json.loads(body)["message"]
        return int(lines[0].split(" ")[1]), message

    async def rest(self) -> bytes:
        async with asyncio.timeout(LIMIT):
            return await self.reader.read(-1)


@asynccontextmanager
async def scene(
    keys: Keys, script: Script, config: Config | None = None
) -> AsyncIterator[tuple[FakeKubelet, Client]]:
    async with (
        fake_kubelet(keys, script) as kubelet,
        api_server(config or edge_config(keys, kubelet.port)) as url,
        raw_client(keys, url) as streams,
    ):
        yield kubelet, Client(*streams)


async def echo(exchange: Exchange) -> None:
    await exchange.send(SWITCH)
    while data := await exchange.reader.read(65536):
        await exchange.send(data)


@pytest.mark.parametrize(
    ("target", "kubelet_target"),
    [
        (
            f"{PODS}/single/exec?command=sh&command=a+b%7E%26&{THREE_STREAMS}&container=app",
            "/exec/default/single/app?command=sh&command=a+b~%26&error=1&input=1&output=1",
        ),
        (
            f"{PODS}/single/exec?command=&command=%0A&stdin=true&stdout=true&tty=true",
            "/exec/default/single/app?command=&command=%0A&input=1&output=1&tty=1",
        ),
        (
            f"{PODS}/double/attach?container=side&stdout=true&stderr=false",
            "/attach/default/double/side?output=1",
        ),
        (f"{PODS}/double/portforward", "/portForward/default/double"),
        (f"{PODS}/double/portforward?ports=80", "/portForward/default/double?port=80"),
    ],
)
async def test_the_kubelet_gets_the_recorded_target(
    keys: Keys, target: str, kubelet_target: str
) -> None:
    async with scene(keys, echo) as (kubelet, client):
        assert await client.ask(head("POST", target, *SPDY)) == SWITCH
        assert kubelet.seen[0].first_line == f"POST {kubelet_target} HTTP/1.1"
        assert kubelet.seen[0].client_name == "kube-apiserver-kubelet-client"


async def test_the_clients_own_headers_reach_the_kubelet_less_its_secrets(keys: Keys) -> None:
    more = (
        ("authorization", "Bearer secret"),
        ("Impersonate-User", "root"),
        ("kubectl-command", "kubectl exec"),
        ("X-Forwarded-For", "9.9.9.9"),
    )
    async with scene(keys, echo) as (kubelet, client):
        await client.ask(head("POST", EXEC, *more, *SPDY))
        assert kubelet.seen[0].headers == [
            ("Host", "api.lab:6443"),
            ("User-Agent", "kubectl/v1.33.1"),
            ("Content-Length", "0"),
            ("Connection", "Upgrade"),
            ("Kubectl-Command", "kubectl exec"),
            ("Upgrade", "SPDY/3.1"),
            ("X-Forwarded-For", "9.9.9.9, 127.0.0.1"),
            ("X-Stream-Protocol-Version", "v5.channel.k8s.io"),
            ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
        ]


async def test_bytes_pass_in_both_directions_and_none_is_lost(keys: Keys) -> None:
    """Some come right behind the heads, on either side; many more follow."""
    payload = bytes(range(256)) * 8192

    async def greet_and_echo(exchange: Exchange) -> None:
        await exchange.send(SWITCH + b"greeting")
        while data := await exchange.reader.read(65536):
            await exchange.send(data)

    async with scene(keys, greet_and_echo) as (_, client):
        answer = await client.ask(head("POST", EXEC, *SPDY) + b"early")
        assert answer == SWITCH
        async with asyncio.timeout(LIMIT):
            assert await client.reader.readexactly(13) == b"greetingearly"
            client.writer.write(payload)
            assert await client.reader.readexactly(len(payload)) == payload


async def test_every_upgrade_has_its_own_connection(keys: Keys) -> None:
    async with (
        fake_kubelet(keys, echo) as kubelet,
        api_server(edge_config(keys, kubelet.port)) as url,
        raw_client(keys, url) as first,
        raw_client(keys, url) as second,
    ):
        for streams in (first, second):
            await Client(*streams).ask(head("POST", EXEC, *SPDY))
        assert [each.connection for each in kubelet.seen] == [1, 2]


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_kubelet_side_is_closed_when_the_client_goes(keys: Keys, how: str) -> None:
    ended = asyncio.Event()

    async def wait_for_the_end(exchange: Exchange) -> None:
        await exchange.send(SWITCH)
        assert await exchange.reader.read() == b""
        ended.set()

    async with scene(keys, wait_for_the_end) as (_, client):
        await client.ask(head("POST", EXEC, *SPDY))
        if how == "close":
            client.writer.close()
        else:
            client.writer.transport.abort()
        async with asyncio.timeout(LIMIT):
            await ended.wait()


async def test_the_client_gets_everything_and_then_the_end(keys: Keys) -> None:
    output = b"x" * 3_000_000

    async def burst(exchange: Exchange) -> None:
        await exchange.send(SWITCH + output)
        exchange.writer.close()

    async with scene(keys, burst) as (_, client):
        await client.ask(head("POST", EXEC, *SPDY))
        assert await client.rest() == output


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
async def test_a_refusal_is_passed_on_as_it_is(keys: Keys, status: int) -> None:
    body = json.dumps({"kind": "Status", "message": "offline – 离线"}).encode()

    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(status, body, ("X-Note", "kept"), ("Keep-Alive", "dropped"))

    async with scene(keys, refuse) as (_, client):
        answer = await client.ask(head("POST", EXEC, *SPDY))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"X-Note: kept\r\n" in answer
        assert b"dropped" not in answer
        assert await client.rest() == body


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "unexpected EOF"),
        (b"\x00garbage\r\n\r\n", 'malformed HTTP response "\\x00garbage"'),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "invalid upgrade response: status code 200",
        ),
        (b"HTTP/1.1 302 Found\r\n\r\n", "invalid upgrade response: status code 302"),
    ],
)
async def test_an_answer_that_is_none(keys: Keys, answer: bytes, message: str) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.send(answer)
        exchange.writer.close()

    async with scene(keys, fail) as (_, client):
        assert await client.refused(head("POST", EXEC, *SPDY)) == (500, message)


async def test_a_kubelet_that_cannot_be_reached(keys: Keys, unused_tcp_port: int) -> None:
    async with scene(keys, echo, edge_config(keys, unused_tcp_port)) as (_, client):
        told = await client.refused(head("POST", EXEC, *SPDY))
        words = f"error dialing backend: dial tcp {PORT}: connect: connection refused"
        assert told == (500, words)


async def test_a_port_that_does_not_speak_tls(keys: Keys) -> None:
    def answer_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_plainly, "127.0.0.1", 0) as plain:
        config = edge_config(keys, plain.sockets[0].getsockname()[1])
        async with scene(keys, echo, config) as (_, client):
            told = await client.refused(head("POST", EXEC, *SPDY))
            words = "tls: first record does not look like a TLS handshake"
            assert told == (500, f"error dialing backend: {words}")


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        (f"{PODS}/none/exec?command=a", 404, 'pods "none" not found'),
        (f"{PODS}/waiting/exec?command=a", 400, "pod waiting does not have a host assigned"),
        (f"{PODS}/lost/portforward", 404, 'pods "edge-9" not found'),
        (f"{PODS}/single/attach?container=x", 400, "container x is not valid for pod single"),
    ],
)
async def test_what_never_reaches_the_kubelet(
    keys: Keys, target: str, status: int, message: str
) -> None:
    async with scene(keys, echo) as (kubelet, client):
        assert await client.refused(head("POST", target, *SPDY)) == (status, message)
        assert kubelet.seen == []


async def test_a_request_that_is_no_upgrade(keys: Keys) -> None:
    async with scene(keys, echo) as (kubelet, client):
        assert await client.refused(head("POST", EXEC)) == (400, "Upgrade request required")
        assert kubelet.seen == []


@pytest.mark.parametrize(
    ("protocol", "declared", "passed"),
    [
        ("v5.channel.k8s.io", (), False),
        ("SPDY/3.1+portforward.k8s.io", (), False),
        ("v4.channel.k8s.io", (), True),
        ("base64.channel.k8s.io", (), True),
        ("v5.channel.k8s.io", ("ExtendWebSocketsToKubelet",), True),
    ],
)
async def test_only_websockets_that_need_translation_are_refused(
    keys: Keys, protocol: str, declared: tuple[str, ...], passed: bool
) -> None:
    async with fake_kubelet(keys, echo) as kubelet:
        node = {
            "name": "edge-1",
            "address": NODE_IP,
            "dial": f"127.0.0.1:{kubelet.port}",
            "declaredFeatures": declared,
        }
        config = edge_config(keys, kubelet.port, nodes=[node])
        async with api_server(config) as url, raw_client(keys, url) as streams:
            client = Client(*streams)
            request = head("GET", EXEC, *WEBSOCKET, ("Sec-WebSocket-Protocol", protocol))
            if not passed:
                assert (await client.refused(request))[0] == 403
                assert kubelet.seen == []
                return
            assert await client.ask(request) == SWITCH
            assert kubelet.seen[0].first_line.startswith("GET /exec/default/single/app?")
            assert kubelet.seen[0].values("Sec-Websocket-Protocol") == [protocol]


async def test_a_refused_client_may_ask_again_on_its_connection(keys: Keys) -> None:
    async with scene(keys, echo) as (_, client):
        protocol = ("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
        request = head("GET", EXEC, *WEBSOCKET, protocol)
        assert (await client.refused(request))[0] == 403
        assert await client.ask(head("POST", EXEC, *SPDY)) == SWITCH
