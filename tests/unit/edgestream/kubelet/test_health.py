import asyncio

import pytest

from edgestream.kubelet.cri_backend import CriBackend
from streamkit.wire.exchange import RequestHead, header_values
from tests.support.exchange import ask
from tests.support.runtime import ScriptedRuntime

LIMIT = 5.0
PASSED = "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"
FAILED = "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n"


async def ask_health(
    backend: CriBackend, target: str, method: str = "GET"
) -> tuple[int, str, bool]:
    """The status, the body, and whether the caller may not guess the content's type."""
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead(method, target))
    assert header_values(head.headers, "content-type") == ["text/plain; charset=utf-8"]
    nosniff = header_values(head.headers, "x-content-type-options") == ["nosniff"]
    return head.status, body.decode(), nosniff


@pytest.mark.parametrize(
    ("target", "body", "nosniff"),
    [
        ("/healthz", "ok", True),
        ("/healthz?verbose", PASSED, True),
        (
            "/healthz?verbose=1&exclude=log",
            PASSED.replace("log ok", "log excluded: ok"),
            True,
        ),
        ("/healthz/ping", "ok", False),
        ("/healthz/syncloop", "ok", False),
    ],
)
async def test_healthy(
    backend: CriBackend, runtime: ScriptedRuntime, target: str, body: str, nosniff: bool
) -> None:
    assert await ask_health(backend, target) == (200, body, nosniff)


async def test_a_head_request_has_no_body(backend: CriBackend, runtime: ScriptedRuntime) -> None:
    assert await ask_health(backend, "/healthz", "HEAD") == (200, "", True)


async def test_without_a_runtime(backend: CriBackend) -> None:
    assert await ask_health(backend, "/healthz") == (500, FAILED, True)
    assert (await ask_health(backend, "/healthz?exclude=syncloop"))[0] == 200
    assert (await ask_health(backend, "/healthz/ping"))[0] == 200
    status, body, _ = await ask_health(backend, "/healthz/syncloop")
    assert status == 500
    assert body.startswith("internal server error: the container runtime can't be reached on ")


async def test_unknown_checks(backend: CriBackend, runtime: ScriptedRuntime) -> None:
    assert await ask_health(backend, "/healthz/nope") == (404, "404 page not found\n", True)
