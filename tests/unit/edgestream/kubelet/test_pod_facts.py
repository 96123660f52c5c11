"""What each route answers about a pod of which only the API server knows."""

import asyncio
from dataclasses import replace

import pytest

from edgestream.kubelet.cri_backend import CriBackend
from streamkit.wire.exchange import RequestHead
from streamkit.wire.pod_facts import ContainerFacts, PodFacts, with_facts
from tests.support.exchange import ask
from tests.support.runtime import ScriptedRuntime

LIMIT = 5.0
APP = ContainerFacts("app", "waiting", "ContainerCreating")
FACTS = PodFacts("mirror", "u1", (APP,), is_current=True)
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))

ROUTES = [
    (
        "GET",
        "/containerLogs/default/web/app",
        400,
        'container "app" in pod "web" is waiting to start: ContainerCreating',
        'pod "web" does not exist',
    ),
    (
        "GET",
        "/containerLogs/default/web/other",
        404,
        'container "other" not found in pod "web"',
        'pod "web" does not exist',
    ),
    ("POST", "/exec/default/web/app?output=1", 500, 'container not found ("app")', None),
    (
        "POST",
        "/attach/default/web/app?output=1",
        500,
        "container app not found in pod web_default",
        None,
    ),
    ("POST", "/run/default/web/app?cmd=id", 500, 'container not found ("app")', None),
    ("POST", "/portForward/default/web", 500, 'pod not found ("web_default")', None),
    ("POST", "/portForward/default/web/mirror", 500, 'pod not found ("web_default")', None),
    ("POST", "/portForward/default/web/u1", 500, 'pod not found ("web_default")', None),
    ("POST", "/portForward/default/web/u9", 404, "pod not found", None),
    (
        "POST",
        "/checkpoint/default/web/app",
        500,
        "checkpointing of default/web/app failed (container app not found)",
        None,
    ),
    ("POST", "/checkpoint/default/web/other", 404, "container other does not exist", None),
]


async def ask_with(
    backend: CriBackend, method: str, target: str, facts: PodFacts | None
) -> tuple[int, str]:
    headers = UPGRADE if method == "POST" else ()
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, with_facts(RequestHead(method, target, headers), facts))
    return head.status, body.decode()


@pytest.mark.parametrize(("method", "target", "status", "body", "unknown"), ROUTES)
async def test_a_pod_without_a_sandbox(
    backend: CriBackend,
    runtime: ScriptedRuntime,
    method: str,
    target: str,
    status: int,
    body: str,
    unknown: str | None,
) -> None:
    runtime.sandboxes, runtime.containers = [], []
    assert await ask_with(backend, method, target, FACTS) == (status, body)
    # Nobody vouches for it.
    for facts in (replace(FACTS, is_current=False), None):
        nothing = 404, unknown or "pod does not exist"
        assert await ask_with(backend, method, target, facts) == nothing


async def test_a_container_that_runs_is_found_whatever_is_said(
    backend: CriBackend, runtime: ScriptedRuntime
) -> None:
    other = PodFacts("u9", "u9", (), is_current=True)
    for facts in (FACTS, replace(FACTS, containers=()), other):
        for target in ("/exec/default/web/app?output=1", "/portForward/default/web"):
            # The runtime has been asked for a stream.
            assert await ask_with(backend, "POST", target, facts) == (500, "URL is not set")
