"""The node's pages, with a real containerd and the kernel's own files."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from edgestream.kubelet.cri_backend import CriBackend, NodeFacts
from lab.containerd import Lab, Pod, missing
from streamkit.wire.exchange import RequestHead
from tests.support.exchange import ask
from tests.support.metrics_server import read_page

pytestmark = pytest.mark.lab

LIMIT, CALL_DEADLINE, DIAL_DEADLINE = 30.0, 20.0, 5.0
PAUSE = 0.1
KIB, MIB = 1 << 10, 1 << 20
LAYER = 300 * KIB
SCRIPT = f"dd if=/dev/zero of=/root/file bs=1024 count={LAYER // KIB}; while true; do :; done"
PAGES = ("/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource", "/metrics/slis")


@dataclass(frozen=True, slots=True)
class Node:
    """A containerd of these tests' own.

    Its pod ``busy`` has the containers ``spin``, which has written 300 KiB and is limited to 64 MiB
    and a fifth of a processor, ``idle``, and ``done``, which has ended; its pod ``host`` is on the
    host's network and has one named ``idle``.
    """

    lab: Lab
    busy: Pod
    container_ids: dict[str, str]

    def pid(self, container_name: str) -> int:
        """The first process of a container of ``busy``."""
        container_id = self.container_ids[container_name]
        status = self.lab.cri("ContainerStatus", container_id=container_id, verbose=True)
        return int(json.loads(status.info["info"])["pid"])


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    if lacking := missing():
        pytest.skip(f"this machine lacks {', '.join(lacking)}")
    with Lab(Path(f"/tmp/np-{os.getpid()}")) as lab:
        busy = lab.run_pod("busy", host_network=not lab.has_network)
        limits = {
            "memory_limit_in_bytes": 64 * MIB,
            "cpu_quota": 20_000,
            "cpu_period": 100_000,
            "cpu_shares": 204,
        }
        security = busy.config["linux"]["security_context"]
        spin = {"resources": limits, "security_context": security}
        ids = {
            "spin": lab.run_container(busy, "spin", ["sh", "-c", SCRIPT], linux=spin),
            "idle": lab.run_container(busy, "idle", ["sleep", "1000"]),
            "done": lab.run_container(busy, "done", ["true"]),
        }
        host = lab.run_pod("host", host_network=True)
        lab.run_container(host, "idle", ["sleep", "1000"])
        yield Node(lab, busy, ids)


@pytest.fixture
async def backend(node: Node, tmp_path: Path) -> AsyncIterator[CriBackend]:
    backend = CriBackend(
        f"unix://{node.lab.socket}",
        call_deadline=CALL_DEADLINE,
        dial_deadline=DIAL_DEADLINE,
        node=NodeFacts(name="edge-1", root_directory=tmp_path),
    )
    yield backend
    await backend.close()


async def get(backend: CriBackend, target: str, method: str = "GET") -> bytes:
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead(method, target))
    assert head.status == 200, body
    return body


async def get_metrics(backend: CriBackend, target: str) -> dict[str, Metric]:
    page = (await get(backend, target)).decode()
    return {family.name: family for family in text_string_to_metric_families(page)}


def processor_seconds(pid: int) -> float:
    """What a process has used, by its own account in /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """What a process holds in memory that no file is behind."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith("RssAnon"))


@pytest.mark.parametrize("target", PAGES)
async def test_prometheus_reads_every_page(backend: CriBackend, target: str) -> None:
    families = await get_metrics(backend, target)
    assert families or target in ("/metrics/probes", "/metrics/slis")
    page = (await get(backend, target)).decode()
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


async def test_metrics_server_gets_node_and_pods(backend: CriBackend, node: Node) -> None:
    before = processor_seconds(node.pid("spin"))
    first = read_page(await get(backend, "/metrics/resource"))
    second = read_page(await get(backend, "/metrics/resource"))
    after = processor_seconds(node.pid("spin"))
    assert set(first.pods) == {("default", "busy"), ("default", "host")}
    assert set(first.pods["default", "busy"]) == {"spin", "idle"}
    assert first.node
    assert second.node
    assert first.node.cpu_seconds <= second.node.cpu_seconds
    assert first.node.time < second.node.time
    spins = [each.pods["default", "busy"]["spin"] for each in (first, second)]
    slack = 0.1  # the kernel accounts for a process by ticks, and for its start elsewhere
    assert before - slack <= spins[0].cpu_seconds <= spins[1].cpu_seconds <= after + slack
    for spin in spins:
        assert resident_bytes(node.pid("spin")) / 4 < spin.memory_bytes < 64 * MIB
        assert spin.start_seconds * 1000 < spin.time
    assert spins[0].time < spins[1].time


async def test_figures_agree_with_the_runtimes(backend: CriBackend, node: Node) -> None:
    def runtime_figures() -> tuple[int, int]:
        stats = node.lab.cri("ContainerStats", container_id=node.container_ids["idle"]).stats
        return stats.cpu.usage_core_nano_seconds.value, stats.memory.working_set_bytes.value

    before = await asyncio.to_thread(runtime_figures)
    pods = json.loads(await get(backend, "/stats/summary?only_cpu_and_memory=true"))["pods"]
    after = await asyncio.to_thread(runtime_figures)
    (idle,) = (
        each
        for pod in pods
        for each in pod["containers"]
        if (pod["podRef"]["name"], each["name"]) == ("busy", "idle")
    )
    assert before[0] <= idle["cpu"]["usageCoreNanoSeconds"] <= after[0]
    assert abs(idle["memory"]["workingSetBytes"] - before[1]) <= MIB


async def test_the_whole_summary(backend: CriBackend, node: Node) -> None:
    async def look() -> tuple[Any, Any]:
        document = json.loads(await get(backend, "/stats/summary"))
        (pod,) = (each for each in document["pods"] if each["podRef"]["name"] == "busy")
        return document["node"], pod

    whole, pod = await look()
    assert whole["memory"]["availableBytes"] + whole["memory"]["workingSetBytes"] == (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )
    assert 0 < whole["fs"]["availableBytes"] < whole["fs"]["capacityBytes"]
    assert 0 < whole["rlimit"]["curproc"] < whole["rlimit"]["maxpid"]
    assert whole["cpu"].keys() == {"time", "usageCoreNanoSeconds"}
    by_name = {each["name"]: each for each in pod["containers"]}
    assert set(by_name) == {"spin", "idle"}
    spin, idle = by_name["spin"], by_name["idle"]
    assert 63 * MIB < spin["memory"]["availableBytes"] < 64 * MIB
    assert "availableBytes" not in idle["memory"]
    used = spin["cpu"]["usageCoreNanoSeconds"] + idle["cpu"]["usageCoreNanoSeconds"]
    assert used <= pod["cpu"]["usageCoreNanoSeconds"]
    assert pod["process_stats"] == {"process_count": 2}
    logs = node.busy.log_directory / "spin" / "0.log"
    assert spin["logs"]["usedBytes"] == logs.stat().st_blocks * 512
    assert spin["logs"]["inodesUsed"] == 1
    if node.lab.has_network:
        assert [each["name"] for each in pod["network"]["interfaces"]] == ["eth0"]
        assert pod["network"]["txBytes"] >= 0

    async with asyncio.timeout(LIMIT):  # containerd looks at layers every ten seconds
        while by_name["spin"]["rootfs"]["usedBytes"] < LAYER or (
            "usageNanoCores" not in whole["cpu"]
        ):
            await asyncio.sleep(PAUSE)
            whole, pod = await look()
            by_name = {each["name"]: each for each in pod["containers"]}
    assert by_name["spin"]["rootfs"]["usedBytes"] < 2 * LAYER
    assert by_name["spin"]["rootfs"]["capacityBytes"] > LAYER
    assert 0 < by_name["spin"]["cpu"]["usageNanoCores"] < 10**9
    assert whole["cpu"]["usageNanoCores"] > 0


async def test_a_pod_on_the_hosts_network_has_none(backend: CriBackend, node: Node) -> None:
    pods = json.loads(await get(backend, "/stats/summary"))["pods"]
    (host,) = (pod for pod in pods if pod["podRef"]["name"] == "host")
    assert "network" not in host
    received = (await get_metrics(backend, "/metrics/cadvisor"))["container_network_receive_bytes"]
    pods_with_network = {sample.labels["pod"] for sample in received.samples}
    assert pods_with_network == {"", "busy"} if node.lab.has_network else {""}


async def test_dashboards_get_every_container(backend: CriBackend, node: Node) -> None:
    families = await get_metrics(backend, "/metrics/cadvisor")
    owners = ("namespace", "pod", "container", "id", "image", "name")
    for name, family in families.items():
        if name.startswith("container_") and name != "container_scrape_error":
            for sample in family.samples:
                assert set(owners) <= sample.labels.keys()
    used = {
        (sample.labels["pod"], sample.labels["container"]): sample.labels
        for sample in families["container_cpu_usage_seconds"].samples
    }
    assert used.keys() == {
        ("", ""),
        ("busy", ""),
        ("busy", "spin"),
        ("busy", "idle"),
        ("host", ""),
        ("host", "idle"),
    }
    spin = used["busy", "spin"]
    assert spin["name"] == node.container_ids["spin"]
    assert spin["id"].endswith(node.container_ids["spin"])
    assert spin["image"] == "lab.local/busybox:1"
    limits = {
        sample.labels["container"]: sample.value
        for sample in families["container_spec_memory_limit_bytes"].samples
        if sample.labels["pod"] == "busy"
    }
    assert limits == {"": 0, "spin": 64 * MIB, "idle": 0}
    (throttled,) = families["container_cpu_cfs_throttled_periods"].samples
    assert (throttled.labels["container"], throttled.value > 0) == ("spin", True)


async def test_pods(backend: CriBackend, node: Node) -> None:
    listed = json.loads(await get(backend, "/pods"))["items"]
    states = {
        (pod["metadata"]["name"], each["name"]): next(iter(each["state"]))
        for pod in listed
        for each in pod["status"]["containerStatuses"]
    }
    assert states == {
        ("busy", "spin"): "running",
        ("busy", "idle"): "running",
        ("busy", "done"): "terminated",
        ("host", "idle"): "running",
    }
    busy = listed[0]
    assert busy["status"]["phase"] == "Running"
    assert busy["status"].get("podIP", "") == (node.busy.ip if node.lab.has_network else "")
    assert [pod["spec"].get("hostNetwork") for pod in listed] == [
        None if node.lab.has_network else True,
        True,
    ]
    running = json.loads(await get(backend, "/runningpods/"))["items"]
    assert [[each["name"] for each in pod["spec"]["containers"]] for pod in running] == [
        ["spin", "idle"],
        ["idle"],
    ]


async def test_commands_and_checkpoints(backend: CriBackend, node: Node) -> None:
    assert await get(backend, "/run/default/busy/idle?cmd=echo+a++b", "POST") == b"a  b\n"
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead("POST", "/run/default/busy/idle?cmd=false"))
        assert (head.status, body) == (500, b"command 'false' exited with 1: ")
        head, body = await ask(backend, RequestHead("POST", "/run/default/busy/done?cmd=true"))
        assert (head.status, body) == (500, b'container not found ("done")')
        head, body = await ask(backend, RequestHead("POST", "/checkpoint/default/busy/idle"))
    words = "checkpointing of default/busy/idle failed (rpc error: code = "
    assert (head.status, body.decode().startswith(words)) == (500, True)
