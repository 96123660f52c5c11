"""cgroups of version 2: one hierarchy for all controllers."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from edgestream.stats.files import count_processes, read_int, read_table, read_text, to_int
from edgestream.stats.usage import CpuUsage, DeviceUsage, MemoryUsage, Usage, working_set

_MICROSECOND = 1000
_SHARES, _WEIGHTS = (2, 262144), (1, 10000)


class CgroupsV2:
    """The hierarchy mounted at ``root``."""

    controller = ""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def has(self, path: str) -> bool:
        """Whether that cgroup is in sight."""
        return os.path.isdir(self._directory(path))

    def read(self, path: str) -> Usage:
        """What that cgroup uses; nothing is known of one that is gone."""
        return replace(self._measure(path), processes=count_processes(self._directory(path)))

    def read_root(self) -> Usage:
        """What the whole node uses; nothing is known where only a part of the tree is in sight.

        The root has no figure of its own for the memory used: it is what programs and files hold.
        """
        # Every cgroup has a type but the very root.
        if os.path.exists(f"{self._root}/cgroup.type"):
            return Usage(at=time.time_ns())
        stat = read_table(f"{self._root}/memory.stat")
        root = self._measure("/")
        if "anon" not in stat or "file" not in stat:
            return replace(root, memory=None)
        return replace(root, memory=_with_stat(stat["anon"] + stat["file"], stat))

    def _measure(self, path: str) -> Usage:
        """All but the number of processes, which takes a walk through the cgroups below."""
        directory = self._directory(path)
        return Usage(
            at=time.time_ns(),
            cpu=_cpu(directory),
            memory=_memory(directory),
            threads=read_int(f"{directory}/pids.current"),
            thread_limit=read_int(f"{directory}/pids.max"),
            devices=tuple(_devices(directory)),
        )

    def _directory(self, path: str) -> str:
        return f"{self._root}{path}"


def _cpu(directory: str) -> CpuUsage | None:
    stat = read_table(f"{directory}/cpu.stat")
    if "usage_usec" not in stat:
        return None
    limit, _, period = read_text(f"{directory}/cpu.max").strip().partition(" ")
    quota = to_int(limit)
    throttling = stat if quota else {}
    return CpuUsage(
        total=stat["usage_usec"] * _MICROSECOND,
        user=_nanoseconds(stat.get("user_usec")),
        system=_nanoseconds(stat.get("system_usec")),
        periods=throttling.get("nr_periods"),
        throttled_periods=throttling.get("nr_throttled"),
        throttled=_nanoseconds(throttling.get("throttled_usec")),
        shares=_shares(read_int(f"{directory}/cpu.weight")),
        period_us=to_int(period),
        quota_us=quota,
    )


def _memory(directory: str) -> MemoryUsage | None:
    usage = read_int(f"{directory}/memory.current")
    if usage is None:
        return None
    memory = _with_stat(usage, read_table(f"{directory}/memory.stat"))
    return replace(
        memory,
        peak=read_int(f"{directory}/memory.peak"),
        swap=read_int(f"{directory}/memory.swap.current"),
        limit_hits=read_table(f"{directory}/memory.events").get("max"),
        limit=read_int(f"{directory}/memory.max"),
        swap_limit=read_int(f"{directory}/memory.swap.max"),
        reservation=read_int(f"{directory}/memory.min") or None,
    )


def _with_stat(usage: int, stat: Mapping[str, int]) -> MemoryUsage:
    return MemoryUsage(
        usage=usage,
        working_set=working_set(usage, stat.get("inactive_file")),
        rss=stat.get("anon"),
        cache=stat.get("file"),
        mapped_file=stat.get("file_mapped"),
        active_file=stat.get("active_file"),
        inactive_file=stat.get("inactive_file"),
        kernel=stat.get("kernel"),
        page_faults=stat.get("pgfault"),
        major_page_faults=stat.get("pgmajfault"),
    )


def _devices(directory: str) -> Iterator[DeviceUsage]:
    """From lines such as ``8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0``."""
    for line in read_text(f"{directory}/io.stat").splitlines():
        device, *fields = line.split()
        pairs = (field.partition("=") for field in fields)
        counts = {name: to_int(value) or 0 for name, _, value in pairs}
        yield DeviceUsage(
            device,
            read_bytes=counts.get("rbytes", 0),
            written_bytes=counts.get("wbytes", 0),
            reads=counts.get("rios", 0),
            writes=counts.get("wios", 0),
        )


def _shares(weight: int | None) -> int | None:
    """The shares that runtimes turn into that weight, or close to them."""
    if weight is None:
        return None
    (least_share, most_shares), (least_weight, most_weight) = _SHARES, _WEIGHTS
    part = (weight - least_weight) * (most_shares - least_share)
    return least_share + part // (most_weight - least_weight)


def _nanoseconds(microseconds: int | None) -> int | None:
    return None if microseconds is None else microseconds * _MICROSECOND
