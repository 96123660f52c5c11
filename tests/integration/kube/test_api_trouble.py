"""The API server away, and refusals of all kinds: serving goes on, the admin address says what is
pending, and everything heals by itself, in a cloud service that is one process all the time.

``KUBE_AWAY`` is for how many seconds the API server is away.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cloudstream.kube.node_status import kubelet_port
from cloudstream.kube.port_record import ANNOTATION
from lab.apiserver.call import Call
from lab.apiserver.router import Router
from lab.apiserver.status import ApiError
from streamkit.wire.exchange import header_values
from tests.integration.kube.processes import NODES, CloudProcess, cloud_process
from tests.support.admin import Admin
from tests.support.kube_server import TOKEN, KubeServer, kube_server, running_pod
from tests.support.wait import until

AWAY = float(os.environ.get("KUBE_AWAY", "2"))
HEALED = 30.0
"""Seconds within which everything is well again: twice the longest pause between attempts, and
what fresh credentials and a loaded machine add."""
RECORD = ("kubeedge", "tunnelport")
LOGS = "/containerLogs/default/web/app"

pytestmark = pytest.mark.timeout(120 + 2 * AWAY)

Fault = Callable[[Call], ApiError | None]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[Fault]:
    """What the API server refuses, and how."""
    found: list[Fault] = []
    answer = Router.answer

    async def faulty(self: Router, call: Call) -> None:
        for fault in found:
            if error := fault(call):
                raise error
        await answer(self, call)

    monkeypatch.setattr(Router, "answer", faulty)
    return found


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    nodes = [{"name": name, "port": 10250} for name in NODES]
    pods = [running_pod("web", "edge-1")]
    async with kube_server(tmp_path / "kube", nodes=nodes, pods=pods) as running:
        yield running


@pytest.fixture
async def cloud(tmp_path: Path, kube: KubeServer) -> AsyncIterator[CloudProcess]:
    async with cloud_process(tmp_path, kube.kube_config) as running, running.edge("edge-1"):
        yield running


@pytest.fixture
def admin(cloud: CloudProcess) -> Admin:
    return cloud.admin


async def read_log(cloud: CloudProcess) -> None:
    async with cloud.client() as client:
        answer = await client.get(LOGS)
        assert (answer.status, answer.body) == (200, f"edge-1 GET {LOGS}\n".encode())


def port_of(kube: KubeServer, name: str) -> int:
    return kubelet_port(kube.world.nodes.get(("", name)))


def record(kube: KubeServer) -> str:
    annotations = kube.world.config_maps.get(RECORD)["metadata"].get("annotations", {})
    return str(annotations.get(ANNOTATION))


async def is_published(kube: KubeServer, name: str) -> None:
    await until(lambda: port_of(kube, name) == 10351, deadline=HEALED)


async def test_all_is_well(cloud: CloudProcess, admin: Admin) -> None:
    await read_log(cloud)
    await admin.until("/readyz?verbose", "[+]duty/pod-watch ok: 1 pods are known, and watched")
    await admin.until(
        "/readyz?verbose",
        "[+]stream-port ok\n",
        "[+]kubernetes-api ok\n",
        "[+]duty/tunnel-port ok: the kubelet port is 10351",
        "[+]duty/kubelet-port ok: 1 nodes have the kubelet port 10351",
        "readyz check passed\n",
    )
    assert await admin.get("/readyz") == (200, "ok")
    metrics = await admin.metrics()
    assert metrics["cloudstream_kube_api_up"] == 1
    assert metrics['cloudstream_duty_pending{duty="kubelet-port"}'] == 0


async def test_the_api_server_is_away(cloud: CloudProcess, kube: KubeServer, admin: Admin) -> None:
    loop = asyncio.get_running_loop()
    async with cloud.client() as session:
        await is_published(kube, "edge-1")
        assert (await session.upgrade("/exec/default/web/app")).status == 101
        await read_log(cloud)
        await kube.stop()
        away_until = loop.time() + AWAY
        async with cloud.edge("edge-2"):
            await admin.until(
                "/readyz",
                "[!]kubernetes-api pending, while serving goes on: the Kubernetes API can't be",
                "[!]duty/kubelet-port pending, while serving goes on: ",
                "readyz check passed\n",
            )
            while loop.time() < away_until:
                await read_log(cloud)
                session.writer.write(b"still there")
                assert await session.receive(11) == b"still there"
                assert (await admin.get("/readyz"))[0] == 200
                await asyncio.sleep(AWAY / 20)
            metrics = await admin.metrics()
            assert metrics["cloudstream_kube_api_up"] == 0
            assert metrics['cloudstream_duty_pending{duty="kubelet-port"}'] >= 1
            assert metrics['cloudstream_kube_requests_total{status="unreachable",verb="WATCH"}']
            assert sum(metrics[f'cloudstream_tunnels{{wire="{v}"}}'] for v in ("v1", "v2")) == 2
            await kube.start()
            await is_published(kube, "edge-2")
            await admin.until_ok("/readyz", deadline=HEALED)
            await read_log(cloud)
            session.writer.write(b"still there")
            assert await session.receive(11) == b"still there"


async def test_node_status_is_forbidden(
    cloud: CloudProcess, kube: KubeServer, admin: Admin, faults: list[Fault]
) -> None:
    def forbid(call: Call) -> ApiError | None:
        is_status = call.head.path.endswith("/status")
        return ApiError(403, "Forbidden", "nodes/status is forbidden") if is_status else None

    await is_published(kube, "edge-1")
    faults.append(forbid)
    async with cloud.edge("edge-2"):
        await admin.until(
            "/readyz",
            "[!]duty/kubelet-port pending, while serving goes on: 1 nodes still lack the kubelet "
            "port 10351 (the Kubernetes API answered 403 to PATCH /api/v1/nodes/edge-2/status: "
            "nodes/status is forbidden)\n",
            "[+]kubernetes-api ok\n",
        )
        await read_log(cloud)
        metrics = await admin.metrics()
        assert metrics['cloudstream_kube_requests_total{status="403",verb="PATCH"}'] >= 1
        assert metrics['cloudstream_duty_pending{duty="kubelet-port"}'] == 1
        faults.clear()
        await is_published(kube, "edge-2")
        await admin.until_ok("/readyz/duty/kubelet-port")


async def test_writes_conflict(
    cloud: CloudProcess, kube: KubeServer, admin: Admin, faults: list[Fault]
) -> None:
    left = {"PATCH": 4, "PUT": 4}

    def conflict(call: Call) -> ApiError | None:
        if not left.get(call.head.method):
            return None
        left[call.head.method] -= 1
        return ApiError(409, "Conflict", "the object has been modified")

    await is_published(kube, "edge-1")
    faults.append(conflict)
    kube.world.config_maps.replace(RECORD, {"metadata": {"name": RECORD[1]}})
    async with cloud.edge("edge-2"):
        await read_log(cloud)
        await is_published(kube, "edge-2")
        await until(lambda: left == {"PATCH": 0, "PUT": 0}, deadline=HEALED)
        await until(lambda: '"10.2.0.12":10351' in record(kube), deadline=HEALED)
        await admin.until_ok("/readyz")
        metrics = await admin.metrics()
        for verb in left:
            refused = f'cloudstream_kube_requests_total{{status="409",verb="{verb}"}}'
            assert metrics[refused] == 4


async def test_watches_are_too_old(
    cloud: CloudProcess, kube: KubeServer, admin: Admin, faults: list[Fault]
) -> None:
    def expire(call: Call) -> ApiError | None:
        is_watch = call.flag("watch")
        return ApiError(410, "Expired", "too old resource version") if is_watch else None

    await read_log(cloud)
    await admin.until_ok("/readyz")
    faults.append(expire)
    await kube.stop()  # which ends the watches
    await kube.start()
    async with cloud.edge("edge-2"):
        await is_published(kube, "edge-2")
        await admin.until("/readyz", "[!]duty/pod-watch pending", "pods are not watched")
        await read_log(cloud)
        refused = 'cloudstream_kube_requests_total{status="410",verb="WATCH"}'
        assert (await admin.metrics())[refused] >= 1
        faults.clear()
        await admin.until_ok("/readyz", deadline=HEALED)


async def test_the_token_expires(
    cloud: CloudProcess,
    kube: KubeServer,
    admin: Admin,
    faults: list[Fault],
) -> None:
    def expire(call: Call) -> ApiError | None:
        is_old = header_values(call.head.headers, "authorization") == [f"Bearer {TOKEN}"]
        return ApiError(401, "Unauthorized", "Unauthorized") if is_old else None

    await read_log(cloud)
    await admin.until_ok("/readyz")
    faults.append(expire)
    await kube.stop()  # which ends the watches that the token began
    await kube.start()
    await admin.until("/readyz", "[!]kubernetes-api pending", " answered 401 to ")
    await read_log(cloud)
    kube.add_token("a-fresh-token")
    await kube.stop()
    await kube.start()
    async with cloud.edge("edge-2"):
        kube.show_token("a-fresh-token")
        await admin.until_ok("/readyz", deadline=HEALED)
        assert port_of(kube, "edge-2") == 10351
        await read_log(cloud)
