"""Real kubectl, of several versions, in front of the stand-in and a scripted kubelet.

What it prints is what it was recorded to print in front of a real API server.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.kubectl import find_or_install
from streamkit.errors import ConfigError
from tests.unit.lab.apiserver_kit import (
    LIMIT,
    NODE_IP,
    Exchange,
    FakeKubelet,
    Keys,
    Kubectl,
    api_server,
    edge_config,
    fake_kubelet,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OFFLINE = "edge node edge-1 is not connected (tunnel down for 42s)"
STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503}
PROXY = "/api/v1/nodes/edge-1/proxy"
PORT = f"{NODE_IP}:10351"


class Scene:
    """A scripted kubelet whose answer a test chooses, and a kubectl to ask with."""

    def __init__(self, kubectl: Kubectl, kubelet: FakeKubelet) -> None:
        self.kubectl, self.kubelet = kubectl, kubelet

    def answer(self, data: bytes, *, close: bool = False) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.send(data)
            if close:
                exchange.writer.close()

        self.kubelet.script = script

    def refuse(self, status: int, body: str, content_type: str = "text/plain") -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.reply(status, body.encode(), ("Content-Type", content_type))

        self.kubelet.script = script

    @property
    def targets(self) -> list[str]:
        return [each.target for each in self.kubelet.seen]


def find(version: str | None) -> Path:
    try:
        return find_or_install(version)
    except ConfigError as error:
        pytest.skip(f"no kubectl {version or 'at all'} here: {error}")


@pytest.fixture(
    params=[
        None,
        *(pytest.param(version, marks=pytest.mark.slow) for version in ("1.20", "1.27", "1.31")),
        pytest.param("1.37", marks=pytest.mark.slow),
    ]
)
async def scene(request: pytest.FixtureRequest, keys: Keys, tmp_path: Path) -> AsyncIterator[Scene]:
    kubectl = Kubectl(find(request.param), tmp_path)

    async def say_nothing(exchange: Exchange) -> None:
        exchange.writer.close()

    async with (
        fake_kubelet(keys, say_nothing) as kubelet,
        api_server(edge_config(keys, kubelet.port)) as url,
    ):
        kubectl.connect(keys, url)
        yield Scene(kubectl, kubelet)


async def test_get_prints_columns(scene: Scene) -> None:
    got = await scene.kubectl("get", "pods", "-A", "-o", "wide")
    header, *rows = [line.split() for line in got.out.splitlines()]
    assert header[:6] == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[:5] for row in rows] == [
        ["default", "double", "2/2", "Running", "0"],
        ["default", "lost", "1/1", "Running", "0"],
        ["default", "single", "1/1", "Running", "0"],
        ["default", "waiting", "0/1", "Pending", "0"],
    ]
    got = await scene.kubectl("get", "nodes", "-o", "wide")
    assert got.out.splitlines()[1].split()[:3] == ["edge-1", "Ready", "<none>"]
    got = await scene.kubectl("get", "pods", "-l", "app=single", "-o", "name")
    assert (got.code, got.out) == (0, "pod/single\n")
    got = await scene.kubectl("get", "pod", "single", "-o", "json")
    assert json.loads(got.out)["spec"]["nodeName"] == "edge-1"


async def test_server_and_health_answer(scene: Scene) -> None:
    assert "v1.36.2" in (await scene.kubectl("version")).out
    assert (await scene.kubectl("get", "--raw", "/healthz")).out == "ok"


async def test_logs(scene: Scene) -> None:
    scene.answer(CHUNKED + b"6\r\nhello\n\r\n0\r\n\r\n")
    got = await scene.kubectl("logs", "single", "--tail=5", "--since=10m", "--timestamps", "-p")
    assert (got.code, got.out, got.err) == (0, "hello\n", "")
    path = "/containerLogs/default/single/app"
    query = "previous=true&sinceSeconds=600&tailLines=5&timestamps=true"
    assert scene.targets == [f"{path}?{query}"]


async def test_logs_of_several_containers(scene: Scene) -> None:
    scene.answer(CHUNKED + b"6\r\nhello\n\r\n0\r\n\r\n")
    got = await scene.kubectl("logs", "-l", "app=double", "--all-containers", "--prefix")
    assert got.code == 0
    assert sorted(got.out.splitlines()) == ["[pod/double/app] hello", "[pod/double/side] hello"]


async def test_logs_that_are_followed_until_interrupted(scene: Scene) -> None:
    gone = asyncio.Event()

    async def follow(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + b"6\r\nhello\n\r\n")
        assert await exchange.reader.read() == b""
        gone.set()

    scene.kubelet.script = follow
    process = await scene.kubectl.start("logs", "-f", "single")
    async with asyncio.timeout(LIMIT):
        assert await process.stdout.readline() == b"hello\n"
        process.send_signal(signal.SIGINT)
        await process.communicate()
        await gone.wait()


async def test_logs_that_never_reach_the_kubelet(scene: Scene) -> None:
    got = await scene.kubectl("logs", "waiting")
    assert (got.code, got.out, got.err) == (0, "", "")
    got = await scene.kubectl("logs", "single", "-c", "zzz")
    assert got.err.startswith("error: container zzz is not valid for pod single")
    assert 'pods "none" not found' in (await scene.kubectl("logs", "none")).err
    assert scene.targets == []


async def test_refused_logs(scene: Scene) -> None:
    expected = {
        400: f"Error from server (BadRequest): {OFFLINE}",
        403: f"Error from server (Forbidden): {OFFLINE} ( pods/log single)",
        404: "Error from server (NotFound): the server could not find the requested resource"
        " ( pods/log single)",
        500: f"Error from server (InternalError): Internal error occurred: {OFFLINE}",
        503: "Error from server (ServiceUnavailable): the server is currently unable to handle"
        " the request ( pods/log single)",
    }
    for status, words in expected.items():
        scene.refuse(status, OFFLINE)
        got = await scene.kubectl("logs", "single")
        assert (got.code, got.out, got.err) == (1, "", f"{words}\n")


async def test_logs_that_break_off_look_complete(scene: Scene) -> None:
    scene.answer(CHUNKED + b"6\r\nhello\n\r\n6\r\nhel", close=True)
    got = await scene.kubectl("logs", "single")
    assert (got.code, got.out, got.err) == (0, "hello\nhel", "")


async def test_refused_exec(scene: Scene) -> None:
    scene.refuse(500, OFFLINE)
    got = await scene.kubectl("exec", "single", "--", "id", "-u")
    assert (got.code, got.err) == (1, f"error: unable to upgrade connection: {OFFLINE}\n")
    assert scene.targets == ["/exec/default/single/app?command=id&command=-u&error=1&output=1"]


async def test_exec_refused_with_a_status_object(scene: Scene) -> None:
    """From 1.36 on kubectl drops the reason."""
    status = {**STATUS, "message": OFFLINE, "reason": "EdgeNodeOffline"}
    scene.refuse(503, json.dumps(status), "application/json")
    got = await scene.kubectl("exec", "single", "--", "id")
    assert got.code == 1
    assert got.err in (
        f"Error from server (EdgeNodeOffline): {OFFLINE}\n",
        f"error: unable to upgrade connection: {OFFLINE}\n",
    )


async def test_exec_that_never_reaches_the_kubelet(scene: Scene) -> None:
    got = await scene.kubectl("exec", "waiting", "--", "id")
    assert got.code == 1
    assert "pod waiting does not have a host assigned\n" in got.err
    assert scene.targets == []


async def test_refused_port_forward(scene: Scene) -> None:
    scene.refuse(500, OFFLINE)
    got = await scene.kubectl("port-forward", "single", ":80")
    words = f"error: error upgrading connection: unable to upgrade connection: {OFFLINE}"
    assert (got.code, got.err) == (1, f"{words}\n")
    assert set(scene.targets) == {"/portForward/default/single"}


async def test_refused_copy(scene: Scene, tmp_path: Path) -> None:
    scene.refuse(500, OFFLINE)
    (tmp_path / "file").write_text("x")
    got = await scene.kubectl("cp", str(tmp_path / "file"), "single:/tmp/file")
    assert (got.code, got.err) == (1, f"error: unable to upgrade connection: {OFFLINE}\n")


async def test_node_proxy(scene: Scene) -> None:
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    got = await scene.kubectl("get", "--raw", f"{PROXY}/stats/summary?only=x")
    assert (got.code, got.out) == (0, "ok")
    assert scene.targets == ["/stats/summary?only=x"]


async def test_refused_node_proxy(scene: Scene) -> None:
    status = {**STATUS, "message": OFFLINE, "reason": "EdgeNodeOffline"}
    scene.refuse(503, json.dumps(status), "application/json")
    got = await scene.kubectl("get", "--raw", f"{PROXY}/pods")
    assert (got.code, got.err) == (1, f"Error from server (EdgeNodeOffline): {OFFLINE}\n")


async def test_node_proxy_that_breaks_off(scene: Scene) -> None:
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", close=True)
    got = await scene.kubectl("get", "--raw", f"{PROXY}/pods")
    assert got.code == 1
    assert "unexpected EOF" in got.err


async def test_a_kubelet_that_closes_without_an_answer(scene: Scene) -> None:
    got = await scene.kubectl("logs", "single")
    url = f"https://{PORT}/containerLogs/default/single/app"
    assert (got.code, got.err) == (1, f'Error from server: Get "{url}": EOF\n')
    got = await scene.kubectl("exec", "single", "--", "id")
    assert got.code == 1
    assert got.err.endswith("unexpected EOF\n")
