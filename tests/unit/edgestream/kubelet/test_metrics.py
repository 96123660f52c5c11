import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from edgestream.kubelet.cri_backend import CriBackend
from streamkit.wire.exchange import header_values
from tests.support.metrics_server import read_page
from tests.support.node import CREATED, SECOND, ScriptedNode
from tests.support.runtime import container, sandbox
from tests.support.trees import APP_ID, IDLE_ID, MIB, POD, SANDBOX_ID
from tests.unit.edgestream.kubelet.pages import DEADLINE, Pages, pages_of, values

POD_PAGES = ("resource", "cadvisor")
WEB = ("default", "web")


@pytest.fixture(params=[1, 2])
def node(tmp_path: Path, request: pytest.FixtureRequest) -> ScriptedNode:
    return ScriptedNode(tmp_path, cgroups=request.param)


@pytest.fixture
async def pages(node: ScriptedNode, tmp_path: Path) -> AsyncIterator[Pages]:
    async with pages_of(node, tmp_path / "cri.sock") as pages:
        yield pages


# -- /metrics/resource -------------------------------------------------------------------------


async def test_what_metrics_server_gets(pages: Pages) -> None:
    scrape = read_page(await pages.get("/metrics/resource"))
    assert scrape.node
    assert scrape.node.cpu_seconds == 1000
    assert scrape.node.memory_bytes in (768 * MIB, 896 * MIB)
    app, idle = scrape.pods[WEB]["app"], scrape.pods[WEB]["idle"]
    assert (app.cpu_seconds, app.memory_bytes) == (7.5, 6 * MIB)
    assert (idle.cpu_seconds, idle.memory_bytes) == (2, 3 * MIB)
    assert app.start_seconds == CREATED / SECOND
    assert app.time > app.start_seconds * 1000


async def test_all_of_the_page(pages: Pages) -> None:
    families = await pages.get_metrics("/metrics/resource")
    stable = "container_cpu_usage_seconds container_memory_working_set_bytes"
    stable += " container_start_time_seconds node_cpu_usage_seconds node_memory_working_set_bytes"
    stable += " pod_cpu_usage_seconds pod_memory_working_set_bytes resource_scrape_error"
    alpha = "container_swap_usage_bytes node_swap_usage_bytes pod_swap_usage_bytes"
    assert {
        name: family.documentation.partition(" ")[0] for name, family in families.items()
    } == dict.fromkeys(stable.split(), "[STABLE]") | dict.fromkeys(alpha.split(), "[ALPHA]")
    assert families["container_cpu_usage_seconds"].type == "counter"
    assert values(families["pod_cpu_usage_seconds"], "namespace", "pod") == {WEB: 10}
    assert values(families["pod_memory_working_set_bytes"], "namespace", "pod") == {WEB: 15 * MIB}
    swapped = values(families["container_swap_usage_bytes"], "container")
    assert swapped == {("app",): 700, ("idle",): 700}
    assert values(families["node_swap_usage_bytes"]) == {(): 1536 * 1024}
    assert values(families["resource_scrape_error"]) == {(): 0}


@pytest.mark.parametrize(("cpu", "usage"), [(0, MIB), (SECOND, 0)])
async def test_a_container_of_nothing_does_not_hide_its_pod(
    node: ScriptedNode, pages: Pages, cpu: int, usage: int
) -> None:
    node.use(f"{POD}/{IDLE_ID}", cpu=cpu, usage=usage)
    page = await pages.get("/metrics/resource")
    assert set(read_page(page).pods[WEB]) == {"app"}
    assert b'container="idle"' not in page


async def test_a_container_that_can_not_be_measured_does_not_hide_its_pod(
    node: ScriptedNode, pages: Pages
) -> None:
    node.set_pid(IDLE_ID, 1)
    assert set(read_page(await pages.get("/metrics/resource")).pods[WEB]) == {"app"}


async def test_time_goes_on(pages: Pages) -> None:
    first, second = [read_page(await pages.get("/metrics/resource")) for _ in range(2)]
    assert first.node
    assert second.node
    assert first.node.time < second.node.time
    assert first.pods[WEB]["app"].time < second.pods[WEB]["app"].time


async def test_of_two_pods_of_one_name_the_newer_one_is_shown(
    node: ScriptedNode, pages: Pages
) -> None:
    node.runtime.sandboxes.append(sandbox("older", created_at=CREATED - 1, uid="older"))
    status = node.runtime.sandbox_statuses[SANDBOX_ID]
    node.runtime.sandbox_statuses["older"] = status
    node.runtime.containers.append(
        container("older-app", created_at=CREATED - 1, uid="older", sandbox_id="older")
    )
    node.runtime.statuses["older-app"] = node.runtime.statuses[APP_ID]
    node.add_stats("older-app", cpu=SECOND, working_set=MIB)
    app = read_page(await pages.get("/metrics/resource")).pods[WEB]["app"]
    assert app.cpu_seconds == 7.5


# -- /metrics/cadvisor -------------------------------------------------------------------------


async def test_every_sample_says_whose_it_is(pages: Pages) -> None:
    families = await pages.get_metrics("/metrics/cadvisor")
    owners = set()
    for name, family in families.items():
        if not name.startswith("container_") or name == "container_scrape_error":
            continue
        for sample in family.samples:
            names = ("container", "id", "image", "name", "namespace", "pod")
            owners.add(tuple(sample.labels[each] for each in names))
    image = "registry.example"
    assert owners == {
        ("", "/", "", "", "", ""),
        ("", POD, "", "", *WEB),
        ("", f"{POD}/{SANDBOX_ID}", f"{image}/pause:3", SANDBOX_ID, *WEB),
        ("app", f"{POD}/{APP_ID}", f"{image}/app:1", APP_ID, *WEB),
        ("idle", f"{POD}/{IDLE_ID}", f"{image}/idle:1", IDLE_ID, *WEB),
    }


async def test_figures_of_a_container(node: ScriptedNode, pages: Pages) -> None:
    limits = {"limit": 64 * MIB, "memory_and_swap": 96 * MIB, "swap": 32 * MIB, "quota": 20000}
    node.use(f"{POD}/{APP_ID}", cpu=7 * SECOND, usage=8 * MIB, **limits)
    families = await pages.get_metrics("/metrics/cadvisor")
    figures = {
        sample.name.removeprefix("container_"): (sample.value, sample.timestamp)
        for family in families.values()
        for sample in family.samples
        if sample.labels.get("container") == "app"
        and "device" not in sample.labels
        and "failure_type" not in sample.labels
    }
    expected = {
        "cpu_usage_seconds_total": 7,
        "cpu_user_seconds_total": 0.3,
        "cpu_system_seconds_total": 0.12,
        "cpu_cfs_periods_total": 100,
        "cpu_cfs_throttled_periods_total": 25,
        "cpu_cfs_throttled_seconds_total": 0.005,
        "memory_usage_bytes": 8 * MIB,
        "memory_working_set_bytes": 6 * MIB,
        "memory_rss": 6000,
        "memory_cache": 5000,
        "memory_mapped_file": 800,
        "memory_swap": 700,
        "memory_kernel_usage": 4096,
        "memory_max_usage_bytes": 8 * MIB + 1,
        "memory_failcnt_total": 6,  # on the page it has no "total", which the parser adds
        "memory_total_active_file_bytes": 900,
        "memory_total_inactive_file_bytes": 2 * MIB,
        "processes": 2,
        "threads": 5,
        "threads_max": 0,
    }
    settings = {
        "spec_cpu_period": 100000,
        "spec_cpu_quota": 20000,
        "spec_memory_limit_bytes": 64 * MIB,
        "spec_memory_swap_limit_bytes": 32 * MIB,
        "spec_memory_reservation_limit_bytes": 0,
        "start_time_seconds": CREATED // SECOND,
    }
    shares, _ = figures.pop("spec_cpu_shares")
    seen, _ = figures.pop("last_seen")
    assert shares in (80, 102)
    assert seen > CREATED / SECOND
    measured = {name: value for name, (value, time) in figures.items() if time is not None}
    fixed = {name: value for name, (value, time) in figures.items() if time is None}
    assert (measured, fixed) == (expected, settings)


async def test_faults_and_devices(pages: Pages) -> None:
    families = await pages.get_metrics("/metrics/cadvisor")
    faults = values(families["container_memory_failures"], "container", "failure_type", "scope")
    assert faults["app", "pgfault", "hierarchy"] == 111
    assert faults["app", "pgmajfault", "hierarchy"] == 22
    for name, count in {"reads_bytes": 4096, "writes_bytes": 8192, "reads": 1, "writes": 2}.items():
        moved = values(families[f"container_fs_{name}"], "container", "device")
        assert moved["app", "/dev/sda"] == count


async def test_networks(pages: Pages) -> None:
    families = await pages.get_metrics("/metrics/cadvisor")
    received = values(families["container_network_receive_bytes"], "pod", "interface")
    assert received == {("", "eth0"): 2000, ("", "wlan0"): 500, ("web", "eth0"): 100}
    for name, count in {
        "receive_packets": 10,
        "receive_errors": 1,
        "receive_packets_dropped": 2,
        "transmit_bytes": 200,
        "transmit_packets": 20,
        "transmit_errors": 3,
        "transmit_packets_dropped": 4,
    }.items():
        assert values(families[f"container_network_{name}"], "pod")[("web",)] == count


async def test_the_machine(pages: Pages) -> None:
    families = await pages.get_metrics("/metrics/cadvisor")
    figures = {
        name: values(families[name], "boot_id")[("b007",)]
        for name in ("machine_cpu_cores", "machine_memory_bytes", "machine_swap_bytes")
    }
    assert list(figures.values()) == [2, 8192 * MIB, 2 * MIB]


async def test_a_container_whose_cgroup_is_not_in_sight(tmp_path: Path) -> None:
    node = ScriptedNode(tmp_path, cgroups=0)
    node.add_stats(APP_ID, cpu=3 * SECOND, working_set=MIB)
    async with pages_of(node, tmp_path / "cri.sock") as pages:
        families = await pages.get_metrics("/metrics/cadvisor")
    used = values(families["container_cpu_usage_seconds"], "container", "id")
    assert used["app", f"/{APP_ID}"] == 3


# -- the other pages ---------------------------------------------------------------------------


async def test_this_process(pages: Pages) -> None:
    families = await pages.get_metrics("/metrics")
    assert values(families["kubelet_node_name"], "node") == {("edge-1",): 1}
    assert values(families["kubelet_running_pods"]) == {(): 1}
    assert values(families["kubelet_running_containers"], "container_state") == {("running",): 2}


async def test_this_process_has_figures_of_its_own(tmp_path: Path) -> None:
    backend = CriBackend(str(tmp_path / "none"), call_deadline=DEADLINE, dial_deadline=DEADLINE)
    families = await Pages(backend).get_metrics("/metrics")
    await backend.close()
    assert values(families["process_resident_memory_bytes"])[()] > MIB
    assert "kubelet_running_pods" not in families


async def test_there_are_no_probes(pages: Pages) -> None:
    assert await pages.get_metrics("/metrics/probes") == {}


async def test_how_health_checks_went(node: ScriptedNode, pages: Pages) -> None:
    assert await pages.get_metrics("/metrics/slis") == {}
    await pages.get("/healthz")
    await pages.get("/healthz?exclude=log")
    node.runtime.refusals["Version"] = grpc.StatusCode.UNKNOWN, "no"
    assert (await pages.ask("/healthz"))[0].status == 500
    families = await pages.get_metrics("/metrics/slis")
    last = values(families["kubernetes_healthcheck"], "name", "type")
    assert last == {("ping", "healthz"): 1, ("log", "healthz"): 1, ("syncloop", "healthz"): 0}
    counts = values(families["kubernetes_healthchecks"], "name", "status")
    assert counts == {
        ("ping", "success"): 3,
        ("log", "success"): 2,
        ("syncloop", "success"): 2,
        ("syncloop", "error"): 1,
    }
    head, body = await pages.ask("/metrics/slis", "DELETE")
    assert (head.status, body) == (200, b"metrics reset\n")
    assert await pages.get_metrics("/metrics/slis") == {}


async def test_pages_that_do_not_exist(pages: Pages) -> None:
    head, body = await pages.ask("/metrics/nope")
    assert (head.status, body) == (404, b"404 page not found\n")
    head, body = await pages.ask("/metrics/resource/more")
    assert (head.status, body) == (404, b"404 page not found\n")


@pytest.mark.parametrize("page", POD_PAGES)
async def test_without_a_runtime_the_node_is_still_shown(
    node: ScriptedNode, tmp_path: Path, page: str
) -> None:
    backend = CriBackend(
        str(tmp_path / "none"), call_deadline=DEADLINE, dial_deadline=DEADLINE, node=node.facts
    )
    families = await Pages(backend).get_metrics(f"/metrics/{page}")
    await backend.close()
    errors = [each for name, each in families.items() if name.endswith("scrape_error")]
    assert [values(each) for each in errors] == [{(): 1}]
    scope = "node" if page == "resource" else "container"
    assert f"{scope}_cpu_usage_seconds" in families


@pytest.mark.parametrize("page", ["", *(f"/{name}" for name in POD_PAGES), "/probes", "/slis"])
async def test_any_method_will_do(pages: Pages, page: str) -> None:
    target = f"/metrics{page}"
    assert (await pages.ask(target, "POST"))[0].status == 200
    head, body = await pages.ask(target, "HEAD")
    assert (head.status, body) == (200, b"")


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("identity", False),
    ],
)
async def test_pages_are_packed_for_who_takes_that(
    pages: Pages, accepted: str, is_packed: bool
) -> None:
    headers = (("Accept-Encoding", accepted),)
    head, body = await pages.ask("/metrics/cadvisor", headers=headers)
    assert header_values(head.headers, "content-encoding") == (["gzip"] if is_packed else [])
    page = gzip.decompress(body) if is_packed else body
    assert page.startswith(b"# HELP container_")
    assert len(body) < len(page) / 4 or not is_packed
