from pathlib import Path

import pytest

from edgestream.cri.cri_pb2 import ContainerStats
from edgestream.stats.cgroups import open_cgroups
from edgestream.stats.node import node_usage
from edgestream.stats.procfs import ProcFs
from edgestream.stats.runtime import usage_of
from edgestream.stats.usage import (
    CpuUsage,
    MemoryUsage,
    Usage,
    limit_or_none,
    together,
    working_set,
)
from tests.support.trees import MIB, write_proc, write_v1_root, write_v2, write_v2_root

TICKS = 1330
"""What the processors of ``write_proc`` have worked."""


def test_the_working_set_is_never_below_zero() -> None:
    assert working_set(100, 30) == 70
    assert working_set(100, 130) == 0
    assert working_set(100, None) == 100
    assert working_set(None, 1) is None


def test_a_limit_that_is_the_greatest_number_is_none() -> None:
    assert limit_or_none(9223372036854771712) is None
    assert limit_or_none(None) is None
    assert limit_or_none(0) == 0


def test_what_is_available_needs_a_limit() -> None:
    assert MemoryUsage(working_set=5).available is None
    assert MemoryUsage(limit=5).available is None
    assert MemoryUsage(working_set=5, limit=8).available == 3
    assert MemoryUsage(working_set=8, limit=5).available == 0
    assert MemoryUsage(swap=1).swap_available is None
    assert MemoryUsage(swap=1, swap_limit=0).swap_available == 0


def test_usage_adds_up() -> None:
    one = Usage(at=5, cpu=CpuUsage(10, user=1), memory=MemoryUsage(usage=1, working_set=2, limit=9))
    two = Usage(at=7, cpu=CpuUsage(20), memory=MemoryUsage(usage=3, rss=4), processes=2)
    unknown = Usage(at=6)
    assert together([one, two, unknown]) == Usage(
        at=7,
        cpu=CpuUsage(30),
        memory=MemoryUsage(usage=4, working_set=2, rss=4),
        processes=2,
    )
    assert together([unknown]) == unknown


def test_the_runtimes_word() -> None:
    stats = ContainerStats()
    assert usage_of(stats) is None
    stats.writable_layer.timestamp = 1
    assert usage_of(stats) is None
    stats.cpu.timestamp = 123
    stats.cpu.usage_core_nano_seconds.value = 0
    assert usage_of(stats) == Usage(at=123, cpu=CpuUsage(0))
    stats.memory.timestamp = 124
    stats.memory.working_set_bytes.value = 3
    stats.memory.available_bytes.value = 0
    stats.memory.usage_bytes.value = 4
    stats.swap.swap_usage_bytes.value = 5
    unlimited = MemoryUsage(usage=4, working_set=3, swap=5)
    assert usage_of(stats) == Usage(at=123, cpu=CpuUsage(0), memory=unlimited)
    stats.memory.available_bytes.value = 7
    limited = usage_of(stats)
    assert limited
    assert limited.memory
    assert (limited.memory.limit, limited.memory.available) == (10, 7)


@pytest.mark.parametrize("version", [1, 2])
def test_the_node_is_limited_by_what_it_has(tmp_path: Path, version: int) -> None:
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    write_proc(proc, {})
    if version == 1:
        write_v1_root(root, cpu=9000, usage=4 * MIB)
    else:
        write_v2_root(root, cpu=9000, anonymous=2 * MIB, file=2 * MIB)
    usage = node_usage(open_cgroups(root), ProcFs(proc))
    assert usage.cpu
    assert usage.memory
    assert usage.cpu.total == 9000
    assert (usage.memory.usage, usage.memory.working_set) == (4 * MIB, 3 * MIB)
    assert (usage.memory.limit, usage.memory.available) == (8192 * MIB, 8189 * MIB)
    assert (usage.memory.swap, usage.memory.swap_available) == (1536 * 1024, 512 * 1024)


def test_a_node_whose_cgroups_are_not_in_sight(tmp_path: Path) -> None:
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    write_proc(proc, {})
    write_v2(root, "/", cpu=9000, usage=1)
    usage = node_usage(open_cgroups(root), ProcFs(proc))
    assert usage.cpu
    assert usage.memory
    assert usage.cpu.total == TICKS * 10**7
    kib = 1024
    assert (usage.memory.usage, usage.memory.working_set) == (4596 * kib, 4396 * kib)
    assert (usage.memory.rss, usage.memory.limit) == (4096 * kib, 8192 * MIB)


def test_a_node_of_which_nothing_is_in_sight(tmp_path: Path) -> None:
    usage = node_usage(open_cgroups(tmp_path / "none"), ProcFs(tmp_path / "none"))
    assert (usage.cpu, usage.memory) == (None, None)
