import asyncio
import socket
from dataclasses import replace

import pytest

from cloudstream.kube.pods import PodDirectory
from cloudstream.kubelet_path import subject_of
from cloudstream.node_session import NodeSession
from cloudstream.places import Places
from cloudstream.registry import Registry
from cloudstream.router import Router, dialled_address, host_without_port
from streamkit.errors import (
    LookupFailed,
    NodeNotConnected,
    NodeUnknown,
    PodNotFound,
    PodNotScheduled,
    StreamError,
)
from streamkit.wire.exchange import RequestHead
from tests.support.kube import ScriptedKube, pods_on
from tests.unit.cloudstream.nodes import connected

ELSEWHERE = "192.0.2.1"


class Net:
    """Two nodes, and a router that may ask for pods."""

    def __init__(self, pods: dict[str, str | StreamError] | None = None) -> None:
        self.registry = Registry()
        self.one, self.two = connected("edge-1", "10.0.0.1"), connected("edge-2", "fd00::2")
        self.registry.add(self.one)
        self.registry.add(self.two)
        self.pods: dict[str, str | Exception] = {**(pods or {})}
        self.api = ScriptedKube(pods_on(self.pods))
        directory = PodDirectory(self.api, deadline=5) if pods is not None else None
        self.router = Router(directory, Places(self.registry, None, reconnect=0.01))

    async def find(
        self, target: str, dialled: str = ELSEWHERE, *, host: str = "", forwarded: str = ""
    ) -> NodeSession:
        headers = [("Host", host)] if host else []
        headers += [("X-Forwarded-Uri", forwarded)] if forwarded else []
        request = RequestHead("GET", target, tuple(headers))
        async with asyncio.timeout(5):
            name = await self.router.find(request, subject_of(request), dialled)
        return self.registry.by_name(name)


async def test_a_pod_is_served_by_its_node_whatever_was_dialled() -> None:
    net = Net({"ns/web": "edge-2"})
    assert await net.find("/containerLogs/ns/web/app", "10.0.0.1", host="10.0.0.1") is net.two
    assert net.api.requests == ["GET /api/v1/namespaces/ns/pods/web"]


async def test_a_moved_pod_is_looked_up_again() -> None:
    net = Net({"ns/web": "edge-9"})
    with pytest.raises(NodeNotConnected, match="edge-9"):
        await net.find("/exec/ns/web/app")
    net.pods["ns/web"] = "edge-1"
    assert await net.find("/exec/ns/web/app") is net.one
    subject = subject_of(RequestHead("GET", "/exec/ns/web/app"))
    assert net.router.can_ask_again(subject)
    assert await net.router.find_again(subject, "edge-1", may_learn=False) is None
    net.pods["ns/web"] = "edge-2"
    assert await net.router.find_again(subject, "edge-1", may_learn=False) == "edge-2"
    assert await net.find("/exec/ns/web/app") is net.two
    net.pods["ns/web"] = "edge-9"
    assert await net.router.find_again(subject, "edge-2", may_learn=True) == "edge-9"


async def test_nobody_knows_better_without_the_kubernetes_api() -> None:
    subject = subject_of(RequestHead("GET", "/exec/ns/web/app"))
    net = Net({"ns/web": LookupFailed("the API is away")})
    assert await net.router.find_again(subject, "edge-1", may_learn=False) is None
    net = Net()
    assert not net.router.can_ask_again(subject)
    assert await net.router.find_again(subject, "edge-1", may_learn=False) is None
    assert not Net({}).router.can_ask_again(subject_of(RequestHead("GET", "/metrics")))


@pytest.mark.parametrize("error", [PodNotFound("no such pod"), PodNotScheduled("no node yet")])
async def test_a_pod_without_a_node_is_an_error(error: StreamError) -> None:
    net = Net({"ns/web": error})
    with pytest.raises(type(error)):
        await net.find("/exec/ns/web/app", "10.0.0.1")


async def test_without_the_kubernetes_api_the_address_serves() -> None:
    net = Net({"ns/web": LookupFailed("the API is away")})
    assert await net.find("/exec/ns/web/app", "10.0.0.1") is net.one
    with pytest.raises(LookupFailed, match="the API is away"):
        await net.find("/exec/ns/web/app")
    assert await Net().find("/exec/ns/web/app", "10.0.0.1") is not None


async def test_a_proxied_node_is_named() -> None:
    net = Net()
    uri = "/api/v1/nodes/edge-2/proxy/metrics"
    assert await net.find("/metrics", "10.0.0.1", forwarded=uri) is net.two
    with pytest.raises(NodeNotConnected, match="edge-9"):
        await net.find("/metrics", "10.0.0.1", forwarded="/api/v1/nodes/edge-9/proxy/metrics")


async def test_what_the_node_proxy_names_is_asked_whatever_pod_it_is_about() -> None:
    net = Net({"ns/web": "edge-1"})
    uri = "/api/v1/nodes/edge-2/proxy/containerLogs/ns/web/app"
    assert await net.find("/containerLogs/ns/web/app", "10.0.0.1", forwarded=uri) is net.two
    subject = subject_of(
        RequestHead("GET", "/containerLogs/ns/web/app", (("X-Forwarded-Uri", uri),))
    )
    assert await net.router.find_again(subject, "edge-2", may_learn=True) is None


@pytest.mark.parametrize(
    ("dialled", "host", "expected"),
    [
        ("10.0.0.1", "edge-2:10351", "edge-1"),
        ("fd00::2", "", "edge-2"),
        (ELSEWHERE, "10.0.0.1:10351", "edge-1"),
        (ELSEWHERE, "[fd00:0:0::2]:10351", "edge-2"),
        (ELSEWHERE, "edge-2:10351", "edge-2"),
        (ELSEWHERE, "edge-2", "edge-2"),
    ],
)
async def test_the_address_comes_first_then_the_host(
    dialled: str, host: str, expected: str
) -> None:
    assert (await Net().find("/pods", dialled, host=host)).name == expected


@pytest.mark.parametrize("host", ["", "kube-apiserver:6443", "192.0.2.7", "[::7]:1", "[", "::"])
async def test_nobody_is_guessed(host: str) -> None:
    with pytest.raises(NodeUnknown, match=r"no connected edge node has the address 192\.0\.2\.1"):
        await Net().find("/pods", host=host)


async def test_an_address_of_several_nodes_misroutes_nothing() -> None:
    net = Net()
    net.registry.add(connected("edge-3", "10.0.0.1"))
    with pytest.raises(NodeUnknown, match="belongs to several nodes"):
        await net.find("/pods", "10.0.0.1")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a:1", "a"),
        ("a", "a"),
        ("10.0.0.1:2", "10.0.0.1"),
        ("[::1]:2", "::1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_a_host_loses_its_port(host: str, expected: str) -> None:
    assert host_without_port(host) == expected


@pytest.mark.parametrize(
    ("bind", "dial", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::", "127.0.0.2", "127.0.0.2"),
        ("::", "::1", "::1"),
    ],
)
def test_without_redirection_the_own_end_was_dialled(bind: str, dial: str, expected: str) -> None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    dual = family == socket.AF_INET6
    with (
        socket.create_server((bind, 0), family=family, dualstack_ipv6=dual) as server,
        socket.create_connection((dial, server.getsockname()[1]), timeout=5),
        server.accept()[0] as accepted,
    ):
        assert dialled_address(accepted) == expected


async def test_facts_are_those_of_the_pod_on_its_own_node() -> None:
    net = Net({"ns/web": "edge-1"})
    net.api.answer = lambda method, path: {
        "metadata": {"namespace": "ns", "name": "web", "uid": "u1"},
        "spec": {"nodeName": "edge-1", "containers": [{"name": "app"}]},
    }
    request = RequestHead("GET", "/containerLogs/ns/web/app")
    subject = subject_of(request)
    assert await net.find(request.target) is net.one
    facts = net.router.facts_for("edge-1", subject, since=0)
    assert facts
    assert (facts.uid, facts.is_current) == ("u1", True)
    stale = net.router.facts_for("edge-1", subject, since=float("inf"))
    assert stale == replace(facts, is_current=False)
    assert net.router.facts_for("edge-2", subject, since=0) is None
    metrics = subject_of(RequestHead("GET", "/metrics"))
    assert net.router.facts_for("edge-1", metrics, since=0) is None
    # Whoever refused may be asked again for as long as there is something new to tell.
    assert await net.router.find_again(subject, "edge-1", may_learn=True) == "edge-1"
    assert await net.router.find_again(subject, "edge-1", may_learn=False) is None
