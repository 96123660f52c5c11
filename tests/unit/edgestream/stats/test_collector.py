from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from edgestream.cri import cri_pb2
from edgestream.cri.client import CriClient
from edgestream.stats.collector import Collector, PodFigures
from edgestream.stats.usage import CpuUsage, MemoryUsage
from edgestream.threads import Threads
from streamkit.errors import RuntimeUnavailable
from tests.support.node import SECOND, ScriptedNode
from tests.support.runtime import container, sandbox, serving
from tests.support.trees import APP_ID, IDLE_ID, MIB, POD, SANDBOX_ID

DEADLINE = 5.0


@asynccontextmanager
async def collecting(node: ScriptedNode, tmp_path: Path) -> AsyncIterator[Collector]:
    """A collector on that node, whose runtime serves."""
    client = CriClient(str(tmp_path / "cri.sock"), call_deadline=DEADLINE)
    threads = Threads("measuring", count=1, deadline=DEADLINE)
    async with serving(node.runtime, tmp_path / "cri.sock"):
        yield Collector(
            client, threads, cgroup_root=node.facts.cgroup_root, proc_root=node.facts.proc_root
        )
        threads.close()
        await client.close()


def called(node: ScriptedNode, request: type) -> int:
    """How often the runtime was asked that."""
    return sum(isinstance(each, request) for each in node.runtime.requests)


def container_figures(pods: Sequence[PodFigures]) -> dict[str, tuple[int, int | None]]:
    """The processor time and the working set of each container of which both are known."""
    usages = {each.name: each.usage for pod in pods for each in pod.containers}
    return {
        name: (usage.cpu.total, usage.memory.working_set)
        for name, usage in usages.items()
        if usage.cpu and usage.memory
    }


@pytest.mark.parametrize("version", [1, 2])
async def test_a_pod(tmp_path: Path, version: int) -> None:
    node = ScriptedNode(tmp_path, cgroups=version)
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods()
    assert (pod.namespace, pod.name, pod.cgroup) == ("default", "web", POD)
    assert pod.usage.cpu
    assert pod.usage.memory
    assert (pod.usage.cpu.total, pod.usage.memory.working_set) == (10 * SECOND, 15 * MIB)
    assert pod.interfaces
    assert [(each.name, each.rx_bytes) for each in pod.interfaces] == [("eth0", 100)]
    app, idle = pod.containers
    assert (app.name, idle.name) == ("app", "idle")
    assert app.usage.cpu
    assert app.usage.memory
    assert (app.usage.cpu.total, app.usage.memory.working_set) == (7_500_000_000, 6 * MIB)
    assert app.usage.memory.available == 58 * MIB
    assert idle.usage.memory
    assert idle.usage.memory.available is None
    assert app.running.details.image == "registry.example/app:1"
    assert app.running.details.log_directory == str(tmp_path / "pods" / "app")
    assert called(node, cri_pb2.ListContainerStatsRequest) == 0


@pytest.mark.parametrize("version", [1, 2])
async def test_the_node(tmp_path: Path, version: int) -> None:
    node = ScriptedNode(tmp_path, cgroups=version)
    async with collecting(node, tmp_path) as collector:
        figures = await collector.node()
    assert figures.usage.cpu
    assert figures.usage.memory
    assert figures.usage.cpu.total == 1000 * SECOND
    assert figures.usage.memory.usage == 1024 * MIB
    assert figures.nano_cores is None
    assert figures.boot_time == 1_700_000_000 * SECOND
    assert [each.name for each in figures.interfaces] == ["eth0", "wlan0"]


async def test_details_are_asked_for_once(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=2)
    async with collecting(node, tmp_path) as collector:
        for _ in range(3):
            await collector.pods()
    assert called(node, cri_pb2.PodSandboxStatusRequest) == 1
    assert called(node, cri_pb2.ContainerStatusRequest) == 2
    assert called(node, cri_pb2.ListPodSandboxRequest) == 3


async def test_a_runtime_that_fails_at_one_container_costs_nothing(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=2)
    node.runtime.refusals["ListContainerStats"] = grpc.StatusCode.UNKNOWN, "one bad container"
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods(with_stats=True)
    assert called(node, cri_pb2.ListContainerStatsRequest) == 1
    assert container_figures([pod])["app"] == (7_500_000_000, 6 * MIB)
    assert [each.stats for each in pod.containers] == [None, None]


async def test_the_runtime_knows_where_cgroups_are_not_in_sight(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=0)
    node.add_stats(APP_ID, cpu=3 * SECOND, working_set=MIB)
    node.add_stats(IDLE_ID, cpu=2 * SECOND, working_set=2 * MIB)
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods()
    assert container_figures([pod]) == {"app": (3 * SECOND, MIB), "idle": (2 * SECOND, 2 * MIB)}
    assert pod.cgroup is None
    assert pod.interfaces is None
    assert pod.usage.cpu == CpuUsage(5 * SECOND)
    assert pod.usage.memory == MemoryUsage(usage=3 * MIB + 2, working_set=3 * MIB)
    assert pod.usage.at == pod.containers[0].usage.at


async def test_nothing_is_known_where_neither_tells(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=0)
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods()
    assert container_figures([pod]) == {}
    assert (pod.usage.cpu, pod.usage.memory, pod.nano_cores) == (None, None, None)


async def test_only_one_container_is_out_of_sight(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=1)
    node.set_pid(IDLE_ID, 1)
    node.add_stats(APP_ID, cpu=3 * SECOND, working_set=MIB)
    node.add_stats(IDLE_ID, cpu=2 * SECOND, working_set=2 * MIB)
    async with collecting(node, tmp_path) as collector:
        pods = await collector.pods()
    assert container_figures(pods) == {
        "app": (7_500_000_000, 6 * MIB),
        "idle": (2 * SECOND, 2 * MIB),
    }


async def test_only_what_runs_in_ready_pods_counts(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=1)
    exited = cri_pb2.CONTAINER_EXITED
    node.runtime.sandboxes += [
        sandbox("s2", created_at=1, pod="gone", uid="u2", ready=False),
        sandbox("s3", created_at=2, pod="empty", uid="u3"),
    ]
    node.runtime.containers += [
        container("c2", created_at=1, pod="gone", uid="u2", sandbox_id="s2"),
        container("c3", created_at=2, pod="empty", uid="u3", sandbox_id="s3", state=exited),
        container("c4", created_at=3, name="done", sandbox_id=SANDBOX_ID, state=exited),
    ]
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods()
    assert [each.name for each in pod.containers] == ["app", "idle"]


async def test_what_is_removed_meanwhile_is_left_out(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=1)
    del node.runtime.statuses[IDLE_ID]
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods()
        assert [each.name for each in pod.containers] == ["app"]
        node.runtime.containers.clear()
        assert await collector.pods() == []
    node = ScriptedNode(tmp_path, cgroups=1)
    node.runtime.sandbox_statuses.clear()
    async with collecting(node, tmp_path) as collector:
        assert await collector.pods() == []


async def test_a_pod_on_the_hosts_network_has_none(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=1)
    status = node.runtime.sandbox_statuses[SANDBOX_ID].status
    status.linux.namespaces.options.network = cri_pb2.NODE
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods()
    assert pod.interfaces is None


async def test_a_process_of_another_namespace_is_not_taken_for_the_sandboxs(
    tmp_path: Path,
) -> None:
    node = ScriptedNode(tmp_path, cgroups=1)
    node.set_pid(SANDBOX_ID, 101)
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods()
    assert pod.interfaces is None
    assert pod.cgroup is None
    assert pod.usage.cpu == CpuUsage(9_500_000_000)


async def test_verbose_status_of_another_kind(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=1)
    for answer, info in zip(node.runtime.statuses.values(), ("[]", "no JSON"), strict=True):
        answer.info["info"] = info
    node.runtime.sandbox_statuses[SANDBOX_ID].info.clear()
    async with collecting(node, tmp_path) as collector:
        (pod,) = await collector.pods()
    assert container_figures([pod]) == {}


async def test_rates_are_of_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = ScriptedNode(tmp_path, cgroups=2)
    now = 1_700_000_200 * SECOND
    monkeypatch.setattr("time.time_ns", lambda: now)
    async with collecting(node, tmp_path) as collector:
        (pod,), whole = await collector.pods(), await collector.node()
        assert [each.nano_cores for each in pod.containers] == [None, None]
        assert (pod.nano_cores, whole.nano_cores) == (None, None)
        now += 20 * SECOND
        node.use(f"{POD}/{APP_ID}", cpu=17_500_000_000, usage=8 * MIB)
        (pod,), whole = await collector.pods(), await collector.node()
    assert [each.nano_cores for each in pod.containers] == [SECOND // 2, 0]
    assert (pod.nano_cores, whole.nano_cores) == (0, 0)


async def test_a_runtime_that_is_away(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=1)
    client = CriClient(str(tmp_path / "none.sock"), call_deadline=DEADLINE)
    threads = Threads("measuring", count=1, deadline=DEADLINE)
    collector = Collector(
        client, threads, cgroup_root=node.facts.cgroup_root, proc_root=node.facts.proc_root
    )
    with pytest.raises(RuntimeUnavailable):
        await collector.pods()
    assert (await collector.node()).usage.cpu
    threads.close()
    await client.close()
