import os
from pathlib import Path

import pytest

from edgestream.stats.node import own_interfaces
from edgestream.stats.procfs import InterfaceUsage, Machine, ProcFs
from tests.support.trees import MIB, lines_v1, write_proc, write_tree

SECOND = 10**9


@pytest.fixture
def proc(tmp_path: Path) -> ProcFs:
    write_proc(tmp_path, {42: lines_v1("/kubepods/x")})
    return ProcFs(tmp_path)


def test_the_node(proc: ProcFs) -> None:
    assert proc.boot_time() == 1700000000 * SECOND
    assert proc.task_limit() == 12345
    assert proc.task_count() == 345
    assert proc.machine() == Machine(
        boot_id="b007",
        cpu_count=2,
        memory=8192 * MIB,
        swap=2 * MIB,
        devices={"8:0": "/dev/sda", "259:1": "/dev/nvme0n1"},
    )
    memory = proc.memory()
    assert (memory["MemFree"], memory["HugePages_Total"]) == (MIB, 7)


def test_processors_that_idle_or_wait_use_no_time(proc: ProcFs) -> None:
    assert proc.cpu_usage() == 1330 * SECOND // os.sysconf("SC_CLK_TCK")


def test_interfaces(proc: ProcFs) -> None:
    assert [each.name for each in own_interfaces(proc)] == ["eth0", "wlan0"]
    assert own_interfaces(proc, 42) == (InterfaceUsage("eth0", 42, 4, 1, 2, 84, 8, 3, 4),)


def test_cgroups_of_a_process(proc: ProcFs) -> None:
    paths = proc.cgroup_paths(42)
    assert {paths[name] for name in ("", "memory", "cpu", "cpuacct", "pids")} == {"/kubepods/x"}
    assert proc.cgroup_paths(43) == {}


def test_what_is_not_there_is_not_known(tmp_path: Path) -> None:
    proc = ProcFs(tmp_path)
    assert proc.boot_time() is None
    assert proc.cpu_usage() is None
    assert proc.task_limit() is None
    assert proc.task_count() is None
    assert proc.memory() == {}
    assert proc.interfaces() == ()
    assert proc.machine() == Machine("", 0, None, None, {})


def test_what_makes_no_sense_is_not_known(tmp_path: Path) -> None:
    write_tree(
        tmp_path, {"stat": "cpu a b\nbtime soon", "meminfo": "MemTotal: much kB", "loadavg": ""}
    )
    write_tree(tmp_path / "1" / "net", {"dev": "a\nb\n eth0: 1 2\n wlan0 0 0"})
    proc = ProcFs(tmp_path)
    assert (proc.boot_time(), proc.cpu_usage(), proc.task_count()) == (None, None, None)
    assert (proc.memory(), proc.interfaces()) == ({}, ())
