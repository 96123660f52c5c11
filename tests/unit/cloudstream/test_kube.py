import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

import cloudstream.kube as kube
from cloudstream.kube import AsyncioKubeApi, PodDirectory
from streamkit.errors import ConfigInvalid, LookupFailed, PodNotFound, PodNotScheduled


class ScriptedApi:
    """The seam, with an answer per call: a node's name, an error, or never one."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def pod_node(self, namespace: str, name: str) -> str:
        self.calls += 1
        answer = self.answers.pop(0)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer or ""

    async def close(self) -> None:
        self.calls = -1


def directory(*answers: str | Exception | None, deadline: float = 5) -> PodDirectory:
    return PodDirectory(ScriptedApi(*answers), deadline=deadline)


async def node_of(pods: PodDirectory, name: str = "web") -> str:
    async with asyncio.timeout(5):
        return await pods.node_of("ns", name)


async def test_a_pods_node_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = directory("edge-1", "edge-2")
    assert [await node_of(pods), await node_of(pods)] == ["edge-1", "edge-1"]
    monkeypatch.setattr(kube, "_FRESH", 0.0)
    assert await node_of(pods) == "edge-2"


async def test_doubt_asks_again_at_once() -> None:
    pods = directory("edge-1", "edge-2")
    await node_of(pods)
    pods.doubt("ns", "web")
    pods.doubt("ns", "unheard-of")
    assert await node_of(pods) == "edge-2"


@pytest.mark.parametrize("outage", [LookupFailed("away"), None], ids=["failed", "silent"])
async def test_what_was_known_serves_through_an_outage(outage: Exception | None) -> None:
    pods = directory("edge-1", outage, outage, deadline=0.01)
    await node_of(pods)
    for _ in range(2):
        pods.doubt("ns", "web")
        assert await node_of(pods) == "edge-1"


async def test_an_outage_is_told_where_nothing_is_known() -> None:
    with pytest.raises(LookupFailed, match="away"):
        await node_of(directory(LookupFailed("away")))
    with pytest.raises(LookupFailed, match="did not answer in time"):
        await node_of(directory(None, deadline=0.01))


async def test_a_pod_without_a_node_is_not_remembered() -> None:
    pods = directory("", "edge-1")
    with pytest.raises(PodNotScheduled, match='pod "web" in namespace "ns" has no node yet'):
        await node_of(pods)
    assert await node_of(pods) == "edge-1"


async def test_a_deleted_pod_is_told_though_it_was_known() -> None:
    pods = directory("edge-1", PodNotFound("gone"))
    await node_of(pods)
    pods.doubt("ns", "web")
    with pytest.raises(PodNotFound):
        await node_of(pods)


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "_CACHE_SIZE", 2)
    api = ScriptedApi("edge-1", "edge-2", "edge-3", "edge-4")
    pods = PodDirectory(api, deadline=5)
    for name in ("a", "b", "c", "c", "b"):
        await node_of(pods, name)
    assert api.calls == 3
    assert await node_of(pods, "a") == "edge-4"
    await pods.close()
    assert api.calls == -1


# -- the real client -----------------------------------------------------------------------------


class FakeApiServer:
    """Answers one status and body to everything; remembers what was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = ""
        self.asked: list[str] = []
        self.released = asyncio.Event()
        self.released.set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.raw_path)
        await self.released.wait()
        return web.Response(status=self.status, text=self.body, content_type="application/json")


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    fake = FakeApiServer()
    app = web.Application()
    app.router.add_get("/{path:.*}", fake.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    yield fake
    fake.released.set()
    async with asyncio.timeout(10):
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client(
    master: str, *, kube_config: str = "", deadline: float = 5
) -> AsyncIterator[AsyncioKubeApi]:
    api = AsyncioKubeApi(master=master, kube_config=kube_config, deadline=deadline)
    try:
        async with asyncio.timeout(10):
            yield api
    finally:
        await api.close()
        await api.close()


async def test_the_node_is_read_from_the_pod(server: FakeApiServer) -> None:
    async with client(server.url) as api:
        server.body = json.dumps({"spec": {"nodeName": "edge-1"}})
        assert await api.pod_node("ns", "web") == "edge-1"
        for spec in ({}, {"nodeName": None}):
            server.body = json.dumps({"spec": spec})
            assert await api.pod_node("ns", "w/../b") == ""
    assert server.asked == [
        "/api/v1/namespaces/ns/pods/web",
        *["/api/v1/namespaces/ns/pods/w%2F..%2Fb"] * 2,
    ]


async def test_a_missing_pod_is_named(server: FakeApiServer) -> None:
    server.status = 404
    async with client(server.url) as api:
        with pytest.raises(PodNotFound, match='pod "web" does not exist in namespace "ns"'):
            await api.pod_node("ns", "web")


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (403, "{}", "the Kubernetes API answered 403"),
        (500, "oops", "the Kubernetes API answered 500"),
        (200, "no JSON", "the Kubernetes API answered no Pod"),
        (200, "[]", "the Kubernetes API answered no Pod"),
        (200, "{}", "the Kubernetes API answered no Pod"),
        (200, '{"spec":null}', "the Kubernetes API answered no Pod"),
    ],
)
async def test_other_answers_are_a_failed_lookup(
    server: FakeApiServer, status: int, body: str, sentence: str
) -> None:
    server.status, server.body = status, body
    async with client(server.url) as api:
        with pytest.raises(LookupFailed, match=sentence):
            await api.pod_node("ns", "web")


async def test_an_api_that_is_away_or_silent_is_a_failed_lookup(server: FakeApiServer) -> None:
    server.released.clear()
    async with client(server.url, deadline=0.05) as api:
        with pytest.raises(LookupFailed, match="can't be reached"):
            await api.pod_node("ns", "web")
    async with client("http://127.0.0.1:1") as api:
        with pytest.raises(LookupFailed, match="can't be reached"):
            await api.pod_node("ns", "web")


async def test_a_kubeconfig_that_is_none_is_a_bad_configuration(tmp_path: Path) -> None:
    broken = tmp_path / "config"
    broken.write_text("users: []\n")
    for path in (str(broken), str(tmp_path / "missing")):
        async with client("", kube_config=path) as api:
            with pytest.raises(ConfigInvalid, match=f"{path} can't be used"):
                await api.pod_node("ns", "web")


def test_whether_there_is_an_api_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert AsyncioKubeApi.is_configured(master="http://x", kube_config="")
    assert AsyncioKubeApi.is_configured(master="", kube_config="/x")
    assert not AsyncioKubeApi.is_configured(master="", kube_config="")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert AsyncioKubeApi.is_configured(master="", kube_config="")
