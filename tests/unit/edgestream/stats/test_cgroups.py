from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgestream.stats.cgroups import Cgroups, locate, open_cgroups, pod_cgroup
from edgestream.stats.cgroups_v1 import CgroupsV1
from edgestream.stats.cgroups_v2 import CgroupsV2
from edgestream.stats.procfs import ProcFs
from edgestream.stats.usage import CpuUsage, DeviceUsage, MemoryUsage, Usage
from tests.support.trees import (
    APP_ID,
    MIB,
    POD,
    POD_UID,
    lines_v1,
    lines_v2,
    write_proc,
    write_tree,
    write_v1,
    write_v1_root,
    write_v2,
    write_v2_root,
)

APP = f"{POD}/{APP_ID}"
SCOPE = (
    f"/kubepods.slice/kubepods-pod{POD_UID.replace('-', '_')}.slice/cri-containerd-{APP_ID}.scope"
)

CPU = CpuUsage(total=7_000_000_000, user=300_000_000, system=120_000_000, period_us=100000)
MEMORY = MemoryUsage(
    usage=8000,
    working_set=6000,
    rss=6000,
    cache=5000,
    mapped_file=800,
    active_file=900,
    inactive_file=2000,
    kernel=4096,
    peak=8001,
    swap=700,
    page_faults=111,
    major_page_faults=22,
    limit_hits=6,
)
DEVICES = (DeviceUsage("8:0", read_bytes=4096, written_bytes=8192, reads=1, writes=2),)


def measured(cgroups: Cgroups, path: str = APP) -> Usage:
    """What is read there, with no time."""
    usage = cgroups.read(path)
    assert usage.at > 1_700_000_000 * 10**9
    return replace(usage, at=0)


def test_version_1(tmp_path: Path) -> None:
    write_v1(tmp_path, APP, cpu=7_000_000_000, usage=8000)
    cgroups = open_cgroups(tmp_path)
    assert isinstance(cgroups, CgroupsV1)
    assert measured(cgroups) == Usage(
        at=0,
        cpu=replace(CPU, shares=102),
        memory=MEMORY,
        processes=2,
        threads=5,
        devices=DEVICES,
    )


def test_version_2(tmp_path: Path) -> None:
    write_v2_root(tmp_path, cpu=1, anonymous=2, file=3)
    write_v2(tmp_path, APP, cpu=7_000_000_000, usage=8000)
    cgroups = open_cgroups(tmp_path)
    assert isinstance(cgroups, CgroupsV2)
    assert measured(cgroups) == Usage(
        at=0,
        cpu=replace(CPU, shares=80),
        memory=MEMORY,
        processes=2,
        threads=5,
        devices=(*DEVICES, DeviceUsage("253:0")),
    )


@pytest.mark.parametrize(("weight", "shares"), [(1, 2), (4, 80), (39, 998), (10000, 262144)])
def test_weights_are_shown_as_shares(tmp_path: Path, weight: int, shares: int) -> None:
    write_v2(tmp_path, APP, cpu=1, usage=1)
    write_tree(tmp_path / APP.strip("/"), {"cpu.weight": weight})
    cpu = CgroupsV2(tmp_path).read(APP).cpu
    assert cpu
    assert cpu.shares == shares


@pytest.mark.parametrize(("write", "kind"), [(write_v1, CgroupsV1), (write_v2, CgroupsV2)])
def test_limits(
    tmp_path: Path, write: Callable[..., None], kind: Callable[[Path], Cgroups]
) -> None:
    limits = {"limit": 8 * MIB, "memory_and_swap": 10 * MIB, "swap": 2 * MIB, "quota": 20000}
    write(tmp_path, APP, cpu=1000, usage=4 * MIB, **limits)
    usage = kind(tmp_path).read(APP)
    assert usage.cpu
    assert usage.memory
    assert (usage.memory.limit, usage.memory.available) == (8 * MIB, 5 * MIB)
    assert (usage.memory.swap_limit, usage.memory.swap_available) == (2 * MIB, 2 * MIB - 700)
    assert usage.cpu.quota_us == 20000
    assert (usage.cpu.periods, usage.cpu.throttled_periods, usage.cpu.throttled) == (
        100,
        25,
        5_000_000,
    )


@pytest.mark.parametrize("kind", [CgroupsV1, CgroupsV2])
def test_nothing_is_known_of_a_cgroup_that_is_gone(
    tmp_path: Path, kind: Callable[[Path], Cgroups]
) -> None:
    assert measured(kind(tmp_path)) == Usage(at=0)
    assert not kind(tmp_path).has(APP)
    assert replace(kind(tmp_path / "none").read_root(), at=0).memory is None


def test_processes_are_counted_below_as_well(tmp_path: Path) -> None:
    write_v2(tmp_path, APP, cpu=1, usage=1)
    write_tree(tmp_path / APP.strip("/") / "init.scope", {"cgroup.procs": "103\n104\n105"})
    assert CgroupsV2(tmp_path).read(APP).processes == 5


def test_the_root_of_version_1(tmp_path: Path) -> None:
    write_v1_root(tmp_path, cpu=9000, usage=4000)
    root = CgroupsV1(tmp_path).read_root()
    assert root.cpu
    assert root.memory
    assert (root.cpu.total, root.memory.usage, root.memory.working_set) == (9000, 4000, 3000)


def test_the_root_of_version_2_sums_up_what_it_has_no_figure_for(tmp_path: Path) -> None:
    write_v2_root(tmp_path, cpu=9000, anonymous=3000, file=1000)
    root = CgroupsV2(tmp_path).read_root()
    assert root.cpu
    assert root.memory
    assert (root.cpu.total, root.memory.usage, root.memory.working_set) == (9000, 4000, 3500)
    assert root.memory.rss == 3000


@pytest.mark.parametrize(("write", "kind"), [(write_v1, CgroupsV1), (write_v2, CgroupsV2)])
def test_the_root_of_a_container_is_not_taken_for_the_nodes(
    tmp_path: Path, write: Callable[..., None], kind: Callable[[Path], Cgroups]
) -> None:
    write(tmp_path, "/", cpu=9000, usage=4000)
    assert replace(kind(tmp_path).read_root(), at=0) == Usage(at=0)


@pytest.mark.parametrize(
    ("member", "found"),
    [
        (APP, APP),
        (SCOPE, SCOPE),
        (f"{SCOPE}/init.scope", SCOPE),
        ("/system.slice/sshd.service", None),
        (f"/../..{APP}", None),
        (f"/elsewhere/{APP_ID}", None),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_cgroup_is_found_by_its_process(
    tmp_path: Path, version: int, member: str, found: str | None
) -> None:
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    write, lines = (write_v1, lines_v1) if version == 1 else (write_v2, lines_v2)
    write(root, APP, cpu=1, usage=1)
    write(root, SCOPE, cpu=1, usage=1)
    write(root, "/system.slice/sshd.service", cpu=1, usage=1)
    if version == 2:
        write_v2_root(root, cpu=1, anonymous=1, file=1)
    write_proc(proc, {42: lines(member)})
    assert locate(open_cgroups(root), ProcFs(proc), 42, APP_ID) == found
    assert locate(open_cgroups(root), ProcFs(proc), 43, APP_ID) is None


@pytest.mark.parametrize(
    ("path", "pod"),
    [
        (APP, POD),
        (SCOPE, SCOPE.rpartition("/")[0]),
        (f"/custom/{APP_ID}", None),
        (f"/{APP_ID}", None),
    ],
)
def test_a_pods_cgroup_bears_its_uid(path: str, pod: str | None) -> None:
    assert pod_cgroup(path, POD_UID) == pod
    assert pod_cgroup(path, "") is None
