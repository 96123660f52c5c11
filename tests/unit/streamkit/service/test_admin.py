"""What the admin address answers."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client.metrics_core import Metric

from streamkit.errors import PortInUse
from streamkit.service.admin import AdminServer
from streamkit.service.health import OK, Check, Outcome, Verdict
from streamkit.service.metrics import gauge, metrics_registry
from tests.support.admin import Admin

outcomes = {"ping": OK, "duty/port": OK}


def check(name: str) -> Check:
    async def look() -> Outcome:
        return outcomes[name]

    return look


def gather() -> list[Metric]:
    return [gauge("some_value", "Some value.", 3)]


@pytest.fixture
async def admin(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Admin]:
    monkeypatch.setitem(outcomes, "ping", OK)
    monkeypatch.setitem(outcomes, "duty/port", OK)
    server = AdminServer({name: check(name) for name in outcomes}, metrics_registry(gather))
    server.bind("127.0.0.1", 0)
    task = asyncio.create_task(server.serve())
    yield Admin(server.port)
    task.cancel()
    await asyncio.wait([task], timeout=10)


async def test_all_is_well(admin: Admin) -> None:
    for path in ("/livez", "/healthz", "/readyz", "/readyz/ping", "/readyz/duty/port"):
        assert await admin.get(path) == (200, "ok"), path
    verbose = "[+]ping ok\n[+]duty/port ok\nreadyz check passed\n"
    assert await admin.get("/readyz?verbose") == (200, verbose)


async def test_what_is_pending_is_told_and_does_no_harm(admin: Admin) -> None:
    outcomes["duty/port"] = Outcome(Verdict.PENDING, "2 to go")
    text = "[+]ping ok\n[!]duty/port pending, while serving goes on: 2 to go\nreadyz check passed\n"
    assert await admin.get("/readyz") == (200, text)
    assert await admin.get("/readyz/duty/port") == (200, "2 to go\n")


async def test_what_has_failed_makes_it_unready(admin: Admin) -> None:
    outcomes["ping"] = Outcome(Verdict.FAILED, "no answer")
    text = "[-]ping failed: no answer\n[+]duty/port ok\nreadyz check failed\n"
    assert await admin.get("/readyz") == (503, text)
    assert await admin.get("/readyz/ping") == (503, "no answer\n")
    assert await admin.get("/livez") == (200, "ok")
    assert await admin.get("/readyz?exclude=ping") == (200, "ok")
    text = "[+]ping excluded: ok\n[+]duty/port ok\nreadyz check passed\n"
    assert await admin.get("/readyz?exclude=ping&verbose") == (200, text)


async def test_an_unknown_check_is_told(admin: Admin) -> None:
    assert await admin.get("/readyz/pong") == (404, "the checks are ping, duty/port\n")


async def test_metrics_of_the_service_and_of_its_process(admin: Admin) -> None:
    metrics = await admin.metrics()
    assert metrics["some_value"] == 3
    assert metrics["process_open_fds"] > 0


async def test_a_port_in_use_is_named(admin: Admin) -> None:
    other = AdminServer({}, metrics_registry(gather))
    with pytest.raises(PortInUse, match=f"the admin port can't listen on .* {admin.port}: "):
        other.bind("127.0.0.1", admin.port)
    await other.serve()  # which has nothing to serve
    assert other.port == 0
