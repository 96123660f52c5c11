"""The rights in deploy/ are what the services use on an API server: all of it, and no more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloudstream.iptables.view import ForwardingView, Scope
from cloudstream.kube.api import ApiRefused, AsyncioKubeApi, JsonObject
from cloudstream.kube.port_record import ANNOTATION
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.support.cloud import running_cloud
from tests.support.edge import connected_edge
from tests.support.kube_server import KubeServer, kube_server, running_pod
from tests.support.wait import until

RBAC = Path(__file__).resolve().parents[3] / "deploy" / "kubernetes" / "base" / "rbac.yaml"
KEY = ("kubeedge", "tunnelport")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

Right = tuple[str, str, str, str, str]
"""API group, resource, verb, namespace and name; the last two are empty where any will do."""


def right(method: str, path: str, query: Mapping[str, str] | None, *, watch: bool = False) -> Right:
    """What a request needs."""
    parts = path.strip("/").split("/")
    group = "" if parts[0] == "api" else parts[1]
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name = rest[0], (rest[1] if len(rest) > 1 else "")
    if len(rest) > 2:
        resource, name = f"{resource}/{rest[2]}", ""
    selector = (query or {}).get("fieldSelector", "")
    if selector.startswith("metadata.name="):
        name = selector.partition("=")[2]
    verb = "watch" if watch else _VERBS.get(method) or ("get" if len(rest) > 1 else "list")
    return group, resource, verb, namespace, name


def granted(name: str) -> set[Right]:
    """The rights of a ClusterRole and a Role of that name."""
    found = set()
    for role in yaml.safe_load_all(RBAC.read_text()):
        if role["kind"] not in ("Role", "ClusterRole") or role["metadata"]["name"] != name:
            continue
        namespace = role["metadata"].get("namespace", "")
        found |= {
            (group, resource, verb, namespace, only)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for only in rule.get("resourceNames", [""])
        }
    return found


def covers(grant: Right, use: Right) -> bool:
    """Whether what is granted is enough for what is used."""
    return grant[:3] == use[:3] and all(
        wanted in ("", found) for wanted, found in zip(grant[3:], use[3:], strict=True)
    )


def unused(name: str, used: set[Right]) -> set[Right]:
    """What is granted and was not used yet."""
    return {grant for grant in granted(name) if not any(covers(grant, use) for use in used)}


def not_granted(name: str, used: set[Right]) -> set[Right]:
    """What was used and is not granted."""
    return {use for use in used if not any(covers(grant, use) for grant in granted(name))}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[Right]:
    """The rights that requests have used. The namespace kubeedge is missing at first."""
    rights: set[Right] = set()
    request, watch = AsyncioKubeApi.request, AsyncioKubeApi.watch
    missing = [ApiRefused(404, "POST", 'namespaces "kubeedge" not found')]

    async def recording(
        self: AsyncioKubeApi, method: str, path: str, *, query: Any = None, **more: Any
    ) -> JsonObject:
        rights.add(right(method, path, query))
        if method == "POST" and path.endswith("/configmaps") and missing:
            raise missing.pop()
        return await request(self, method, path, query=query, **more)

    @contextlib.asynccontextmanager
    async def recording_watch(
        self: AsyncioKubeApi, path: str, query: Mapping[str, str], *, seconds: int
    ) -> AsyncIterator[AsyncIterator[JsonObject]]:
        rights.add(right("GET", path, query, watch=True))
        async with watch(self, path, query, seconds=seconds) as events:
            yield events

    monkeypatch.setattr(AsyncioKubeApi, "request", recording)
    monkeypatch.setattr(AsyncioKubeApi, "watch", recording_watch)
    return rights


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    nodes = [{"name": "edge-1", "address": "10.2.4.15"}]
    pods = [running_pod("web", "edge-1")]
    tokens = {"scraper": {"user": "scraper", "allowed": ["nodes/metrics"]}}
    more: dict[str, Any] = {"namespaces": ["default"], "tokens": tokens}
    async with kube_server(tmp_path / "kube", nodes=nodes, pods=pods, **more) as running:
        yield running


async def answer(exchange: Exchange) -> None:
    await exchange.send_head(ResponseHead(200))


async def test_the_cloud_service(tmp_path: Path, kube: KubeServer, used: set[Right]) -> None:
    kube_config = kube.kube_config
    async with (
        running_cloud(tmp_path / "pki", kube_config=kube_config) as cloud,
        connected_edge(cloud, answer),
    ):
        await until(lambda: all(each.pending == 0 for each in cloud.service.duties().values()))
        for stem, path in (
            ("apiserver-client", "/containerLogs/default/web/app"),
            (None, "/stats"),
        ):
            reader, writer = await cloud.connect(stem)
            lines = (f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Authorization: Bearer scraper")
            writer.write("\r\n".join((*lines, "", "")).encode())
            async with asyncio.timeout(10):
                assert (await reader.readline()).split()[1] == (b"200" if stem else b"403")
            writer.close()
        config_map = {"metadata": {"name": KEY[1], "annotations": {ANNOTATION: "{}"}}}
        kube.world.config_maps.replace(KEY, config_map)
        await until(lambda: not unused("cloudstream", used))
    assert not not_granted("cloudstream", used)


async def test_the_iptables_manager(kube: KubeServer, used: set[Right]) -> None:
    api = kube.api()
    view = ForwardingView(api, Scope(), stream_port=10003, changed=lambda: None)
    task = asyncio.create_task(view.run())
    await until(lambda: not unused("cloudstream-iptables", used))
    task.cancel()
    await asyncio.wait([task])
    await api.close()
    assert not not_granted("cloudstream-iptables", used)
