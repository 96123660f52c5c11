import asyncio

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.cri import cri_pb2
from edgestream.kubelet.cri_backend import CriBackend
from edgestream.kubelet.port_forward import parse_ports
from streamkit.wire.exchange import RequestHead
from tests.support.exchange import ask
from tests.support.http_server import SWITCHED, Peer, scripted_server
from tests.support.runtime import ScriptedRuntime, sandbox

LIMIT = 5.0
SPDY = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
WEBSOCKET = (("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket"))


@pytest.mark.parametrize(
    ("query", "ports"),
    [("port=80", [80]), ("port=80&port=443,8080", [80, 443, 8080]), ("port=0080", [80])],
)
def test_ports_of_a_websocket(query: str, ports: list[int]) -> None:
    assert parse_ports(RequestHead("GET", f"/portForward/ns/p?{query}", WEBSOCKET)) == ports


@pytest.mark.parametrize("query", ["", "port=80", "port=x"])
def test_spdy_names_its_ports_later(query: str) -> None:
    assert parse_ports(RequestHead("POST", f"/portForward/ns/p?{query}", SPDY)) == []


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", 'query parameter "port" is required'),
        ("ports=80", 'query parameter "port" is required'),
        ("port=", 'query parameter "port" cannot be empty'),
        (
            "port=http",
            'unable to parse "http" as a port: strconv.ParseUint: parsing "http": invalid syntax',
        ),
        (
            "port=80,",
            'unable to parse "" as a port: strconv.ParseUint: parsing "": invalid syntax',
        ),
        (
            "port=-1",
            'unable to parse "-1" as a port: strconv.ParseUint: parsing "-1": invalid syntax',
        ),
        (
            "port=65536",
            'unable to parse "65536" as a port: strconv.ParseUint: parsing "65536": value out of',
        ),
        ("port=0", 'port "0" must be > 0'),
        ("port=1" + ",1" * 100, 'query parameter "port" names more than 100 ports'),
        ("port=80&port=x&port=", 'unable to parse "x" as a port: strconv.ParseUint: parsing "x":'),
    ],
)
def test_bad_ports(query: str, body: str) -> None:
    with pytest.raises(KubeletAnswer) as caught:
        parse_ports(RequestHead("GET", f"/portForward/ns/p?{query}", WEBSOCKET))
    assert caught.value.status == 400
    assert caught.value.body.startswith(body)


@pytest.mark.parametrize("path", ["/portForward/default/web", "/portForward/default/web/u1"])
async def test_a_network_out_of_reach_is_left_to_the_runtime(
    backend: CriBackend, runtime: ScriptedRuntime, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def switch(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + b"bytes")

    runtime.sandboxes.append(sandbox("s0", created_at=0, ready=False))
    async with asyncio.timeout(LIMIT), scripted_server(switch) as server:
        runtime.streaming_url = server.url
        for _ in range(2):
            head, body = await ask(backend, RequestHead("GET", f"{path}?port=80", WEBSOCKET))
            assert (head.status, body) == (101, b"bytes")
    assert runtime.requests[-1] == cri_pb2.PortForwardRequest(pod_sandbox_id="s1", port=[80])
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    (line,) = lines
    why = "the container runtime does not tell where a sandbox's network is"
    assert line == f"port-forward goes through the container runtime: {why}"


async def test_without_an_upgrade_there_is_nothing_to_forward(
    backend: CriBackend, runtime: ScriptedRuntime
) -> None:
    runtime.sandbox_statuses["s1"].status.linux.namespaces.options.network = cri_pb2.NODE
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead("POST", "/portForward/default/web"))
    assert (head.status, body) == (500, b"Upgrade request required\n")


@pytest.mark.parametrize("state", ["stopped", "closed"])
async def test_a_sandbox_that_stops_is_left_to_the_runtime(
    backend: CriBackend, runtime: ScriptedRuntime, state: str
) -> None:
    if state == "stopped":
        runtime.sandboxes = [sandbox("s1", created_at=1, ready=False)]
    else:
        runtime.sandbox_statuses["s1"].info["info"] = '{"netNamespaceClosed": true}'
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead("POST", "/portForward/default/web", SPDY))
    assert (head.status, body) == (500, b"URL is not set")
    assert runtime.requests[-1] == cri_pb2.PortForwardRequest(pod_sandbox_id="s1")


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/portForward/default/nope", 404, "pod does not exist"),
        ("/portForward/default/web/u9", 404, "pod not found"),
    ],
)
async def test_pods_that_are_not_there(
    backend: CriBackend, runtime: ScriptedRuntime, path: str, status: int, body: str
) -> None:
    async with asyncio.timeout(LIMIT):
        head, got = await ask(backend, RequestHead("POST", path, SPDY))
    assert (head.status, got.decode()) == (status, body)


async def test_a_pod_that_stopped(backend: CriBackend, runtime: ScriptedRuntime) -> None:
    runtime.sandboxes = [sandbox("s1", created_at=1, ready=False)]
    runtime.containers = []
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead("POST", "/portForward/default/web/u1", SPDY))
    assert (head.status, body) == (500, b'pod not found ("web_default")')
