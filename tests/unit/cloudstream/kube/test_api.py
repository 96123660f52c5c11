import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from aiohttp import web

import cloudstream.kube.api as api_module
from cloudstream.kube.api import STRATEGIC_PATCH, ApiRefused, AsyncioKubeApi, api_path
from streamkit.errors import LookupFailed
from tests.support.kube_server import TOKEN, KubeServer, kube_server, running_pod


class FakeServer:
    """Answers one status and body to everything; remembers what was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = "{}"
        self.asked: list[tuple[str, str, str, str]] = []
        self.released = asyncio.Event()
        self.released.set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        content_type = request.headers["Content-Type"]
        line = (request.method, request.raw_path, content_type, await request.text())
        self.asked.append(line)
        await self.released.wait()
        return web.Response(status=self.status, text=self.body, content_type="application/json")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    yield fake
    fake.released.set()
    async with asyncio.timeout(10):
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client(
    master: str = "", *, kube_config: str = "", deadline: float = 5
) -> AsyncIterator[AsyncioKubeApi]:
    api = AsyncioKubeApi(master=master, kube_config=kube_config, deadline=deadline)
    try:
        async with asyncio.timeout(20):
            yield api
    finally:
        await api.close()
        await api.close()


@contextlib.asynccontextmanager
async def closing(api: AsyncioKubeApi) -> AsyncIterator[AsyncioKubeApi]:
    try:
        async with asyncio.timeout(20):
            yield api
    finally:
        await api.close()


async def test_requests_go_out_as_asked(server: FakeServer) -> None:
    server.body = '{"kind": "Node"}'
    async with client(server.url) as api:
        path = api_path("api", "v1", "nodes", "n/../1", "status")
        assert await api.request("GET", path, query={"limit": "1"}) == {"kind": "Node"}
        patch = {"status": {"x": 1}}
        await api.request("PATCH", path, body=patch, content_type=STRATEGIC_PATCH)
        await api.request("POST", "/api/v1/namespaces", body={"kind": "Namespace"})
    escaped = "/api/v1/nodes/n%2F..%2F1/status"
    assert server.asked == [
        ("GET", f"{escaped}?limit=1", "application/json", ""),
        ("PATCH", escaped, "application/strategic-merge-patch+json", '{"status": {"x": 1}}'),
        ("POST", "/api/v1/namespaces", "application/json", '{"kind": "Namespace"}'),
    ]


@pytest.mark.parametrize("segments", [("a", ""), ("a", "."), ("..", "a")])
def test_a_path_leads_nowhere_else(segments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="is no path"):
        api_path(*segments)


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (403, '{"message": "you may not"}', "answered 403 to GET /x: you may not"),
        (404, '{"message": 1}', "answered 404 to GET /x$"),
        (500, "oops", "answered 500 to GET /x$"),
        (409, "[]", "answered 409 to GET /x$"),
    ],
)
async def test_a_refusal_has_its_status(
    server: FakeServer, status: int, body: str, sentence: str
) -> None:
    server.status, server.body = status, body
    async with client(server.url) as api:
        with pytest.raises(ApiRefused, match=sentence) as raised:
            await api.request("GET", "/x")
    assert raised.value.status == status


@pytest.mark.parametrize("body", ["no JSON", "[]", "", "null"])
async def test_what_is_no_object_is_a_failed_lookup(server: FakeServer, body: str) -> None:
    server.body = body
    async with client(server.url) as api:
        with pytest.raises(LookupFailed, match="answered GET /x with no JSON object"):
            await api.request("GET", "/x")


async def test_an_api_that_is_away_or_silent_is_a_failed_lookup(server: FakeServer) -> None:
    server.released.clear()
    async with client(server.url, deadline=0.05) as api:
        with pytest.raises(LookupFailed, match="did not answer GET /x in time"):
            await api.request("GET", "/x")
        with pytest.raises(LookupFailed, match="did not answer the watch of /x in time"):
            async with api.watch("/x", {}, seconds=5):
                pytest.fail("nothing was agreed to")
    async with client("http://127.0.0.1:1") as api:
        with pytest.raises(LookupFailed, match="can't be reached"):
            await api.request("GET", "/x")


async def test_a_kubeconfig_that_is_none_is_told_and_read_again(
    server: FakeServer, tmp_path: Path
) -> None:
    broken = tmp_path / "config"
    broken.write_text("users: []\n")
    async with client(kube_config=str(tmp_path / "missing")) as api:
        with pytest.raises(LookupFailed, match="missing can't be used"):
            await api.request("GET", "/x")
    async with client(kube_config=str(broken)) as api:
        with pytest.raises(LookupFailed, match=f"{broken} can't be used"):
            await api.request("GET", "/x")
        document = {
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "contexts": [{"name": "x", "context": {"cluster": "c"}}],
            "current-context": "x",
        }
        broken.write_text(json.dumps(document))
        assert await api.request("GET", "/x") == {}


def test_whether_there_is_an_api_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert AsyncioKubeApi.is_configured(master="http://x", kube_config="")
    assert AsyncioKubeApi.is_configured(master="", kube_config="/x")
    assert not AsyncioKubeApi.is_configured(master="", kube_config="")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert AsyncioKubeApi.is_configured(master="", kube_config="")


# -- against the stand-in, over TLS --------------------------------------------------------------


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    config = {"pods": [running_pod("web", "edge-1")]}
    async with kube_server(tmp_path / "kube", **config) as running:
        yield running


POD = "/api/v1/namespaces/default/pods/web"


async def test_an_expired_token_is_read_again(
    kube: KubeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kube.show_token("expired")
    async with closing(kube.api()) as api:
        # Loaded only just now: there is no newer one to be had.
        with pytest.raises(ApiRefused, match="answered 401"):
            await api.request("GET", POD)
        monkeypatch.setattr(api_module, "_RENEWAL_PAUSE", 0.0)
        kube.show_token(TOKEN)
        pods = await asyncio.gather(*(api.request("GET", POD) for _ in range(20)))
    assert {pod["spec"]["nodeName"] for pod in pods} == {"edge-1"}
    assert TOKEN not in caplog.text
    assert "expired" not in caplog.text


async def test_a_token_that_stays_refused_is_told(
    kube: KubeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "_RENEWAL_PAUSE", 0.0)
    kube.show_token("expired")
    async with closing(kube.api()) as api:
        for _ in range(3):
            with pytest.raises(ApiRefused, match="answered 401"):
                await api.request("GET", POD)
            with pytest.raises(ApiRefused, match="answered 401"):
                async with api.watch("/api/v1/pods", {}, seconds=5):
                    pytest.fail("nothing was agreed to")


async def test_another_ca_is_read_again(kube: KubeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "_RENEWAL_PAUSE", 0.0)
    ca_file = kube.directory / "ca.crt"
    right = ca_file.read_bytes()
    trustme.CA().cert_pem.write_to_path(ca_file)
    async with closing(kube.api()) as api:
        with pytest.raises(LookupFailed, match="can't be reached"):
            await api.request("GET", POD)
        ca_file.write_bytes(right)
        assert (await api.request("GET", POD))["metadata"]["name"] == "web"


async def test_the_api_serves_again_after_an_outage(kube: KubeServer) -> None:
    async with closing(kube.api()) as api:
        await api.request("GET", POD)
        await kube.stop()
        with pytest.raises(LookupFailed, match="can't be reached"):
            await api.request("GET", POD)
        await kube.start()
        assert (await api.request("GET", POD))["metadata"]["name"] == "web"


async def test_events_come_as_things_change_until_the_end(kube: KubeServer) -> None:
    async with (
        closing(kube.api()) as api,
        api.watch("/api/v1/namespaces", {"resourceVersion": "1"}, seconds=1) as events,
    ):
        kube.world.namespaces.create("", {"metadata": {"name": "new"}})
        seen = [(event["type"], event["object"]["metadata"]["name"]) async for event in events]
    assert ("ADDED", "new") in seen


async def test_a_watch_that_breaks_off_is_a_failed_lookup(kube: KubeServer) -> None:
    async with (
        closing(kube.api()) as api,
        api.watch("/api/v1/namespaces", {}, seconds=30) as events,
    ):
        assert (await anext(events))["type"] == "ADDED"
        await kube.stop()
        with pytest.raises(LookupFailed, match="can't be reached"):
            [event async for event in events]


async def test_a_watch_that_outlives_its_end_is_dead(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "_WATCH_GRACE", -0.9)

    async def start(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await server.released.wait()
        return answer

    app = web.Application()
    app.router.add_get("/x", start)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.released.clear()
    host, port = runner.addresses[0][:2]
    async with (
        client(f"http://{host}:{port}") as api,
        api.watch("/x", {}, seconds=1) as events,
    ):
        with pytest.raises(LookupFailed, match="did not answer the watch of /x in time"):
            await anext(events)
    server.released.set()
    await runner.cleanup()


async def test_a_rotated_service_account_token_is_used(
    kube: KubeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes_asyncio.config import incluster_config

    host, port = kube.config.listen.rsplit(":", 1)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(kube.directory / "ca.crt"))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(kube.directory / "token"))
    monkeypatch.setattr(incluster_config, "TOKEN_REFRESH_PERIOD", timedelta(0))
    monkeypatch.setattr(api_module, "_RENEWAL_PAUSE", 3600.0)
    async with client() as api:
        assert (await api.request("GET", POD))["metadata"]["name"] == "web"
        kube.show_token("no longer good")
        with pytest.raises(ApiRefused, match="answered 401"):
            await api.request("GET", POD)
        kube.show_token(TOKEN)
        assert (await api.request("GET", POD))["metadata"]["name"] == "web"
