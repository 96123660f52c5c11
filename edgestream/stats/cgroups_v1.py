"""cgroups of version 1: a hierarchy for each controller, or for a few together."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgestream.stats.files import count_processes, read_int, read_table, read_text, to_int
from edgestream.stats.usage import (
    TICK,
    CpuUsage,
    DeviceUsage,
    MemoryUsage,
    Usage,
    limit_or_none,
    working_set,
)


class CgroupsV1:
    """The hierarchies mounted below ``root``, in directories that bear their controllers' names."""

    controller = "memory"

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        names = os.listdir(root) if root.is_dir() else []
        self._hierarchies = {each: name for name in names for each in name.split(",")}

    def has(self, path: str) -> bool:
        """Whether that cgroup is in sight."""
        return os.path.isdir(self._directory("memory", path))

    def read(self, path: str) -> Usage:
        """What that cgroup uses; nothing is known of one that is gone."""
        return replace(
            self._measure(path), processes=count_processes(self._directory("memory", path))
        )

    def read_root(self) -> Usage:
        """What the whole node uses; nothing is known where only a part of the tree is in sight."""
        # Only the very root of a hierarchy has this file.
        if not os.path.exists(f"{self._directory('memory', '/')}/cgroup.sane_behavior"):
            return Usage(at=time.time_ns())
        return self._measure("/")

    def _measure(self, path: str) -> Usage:
        """All but the number of processes, which takes a walk through the cgroups below."""
        pids = self._directory("pids", path)
        return Usage(
            at=time.time_ns(),
            cpu=self._cpu(path),
            memory=self._memory(path),
            threads=read_int(f"{pids}/pids.current"),
            thread_limit=read_int(f"{pids}/pids.max"),
            devices=tuple(self._devices(path)),
        )

    def _directory(self, controller: str, path: str) -> str:
        return f"{self._root}/{self._hierarchies.get(controller, controller)}{path}"

    def _cpu(self, path: str) -> CpuUsage | None:
        account, scheduler = self._directory("cpuacct", path), self._directory("cpu", path)
        total = read_int(f"{account}/cpuacct.usage")
        if total is None:
            return None
        ticks = read_table(f"{account}/cpuacct.stat")
        quota = read_int(f"{scheduler}/cpu.cfs_quota_us")
        has_quota = quota is not None and quota > 0
        throttling = read_table(f"{scheduler}/cpu.stat") if has_quota else {}
        return CpuUsage(
            total=total,
            user=_times(ticks.get("user"), TICK),
            system=_times(ticks.get("system"), TICK),
            periods=throttling.get("nr_periods"),
            throttled_periods=throttling.get("nr_throttled"),
            throttled=throttling.get("throttled_time"),
            shares=read_int(f"{scheduler}/cpu.shares"),
            period_us=read_int(f"{scheduler}/cpu.cfs_period_us"),
            quota_us=quota if has_quota else None,
        )

    def _memory(self, path: str) -> MemoryUsage | None:
        directory = self._directory("memory", path)
        usage = read_int(f"{directory}/memory.usage_in_bytes")
        if usage is None:
            return None
        # The figures named "total" count the cgroups below as well, the others don't.
        stat = read_table(f"{directory}/memory.stat")
        limit = limit_or_none(read_int(f"{directory}/memory.limit_in_bytes"))
        with_swap = limit_or_none(read_int(f"{directory}/memory.memsw.limit_in_bytes"))
        return MemoryUsage(
            usage=usage,
            working_set=working_set(usage, stat.get("total_inactive_file")),
            rss=stat.get("total_rss"),
            cache=stat.get("total_cache"),
            mapped_file=stat.get("total_mapped_file"),
            active_file=stat.get("total_active_file"),
            inactive_file=stat.get("total_inactive_file"),
            kernel=read_int(f"{directory}/memory.kmem.usage_in_bytes"),
            peak=read_int(f"{directory}/memory.max_usage_in_bytes"),
            swap=stat.get("total_swap"),
            page_faults=stat.get("total_pgfault"),
            major_page_faults=stat.get("total_pgmajfault"),
            limit_hits=read_int(f"{directory}/memory.failcnt"),
            limit=limit,
            swap_limit=None if with_swap is None or limit is None else with_swap - limit,
            reservation=limit_or_none(read_int(f"{directory}/memory.soft_limit_in_bytes")),
        )

    def _devices(self, path: str) -> Iterator[DeviceUsage]:
        directory = self._directory("blkio", path)
        moved = _by_device(f"{directory}/blkio.throttle.io_service_bytes_recursive")
        served = _by_device(f"{directory}/blkio.throttle.io_serviced_recursive")
        for device, counts in moved.items():
            operations = served.get(device, {})
            yield DeviceUsage(
                device,
                read_bytes=counts.get("Read", 0),
                written_bytes=counts.get("Write", 0),
                reads=operations.get("Read", 0),
                writes=operations.get("Write", 0),
            )


def _by_device(path: str) -> dict[str, dict[str, int]]:
    """The counts in lines such as ``8:0 Read 4096``, by device and by what is counted."""
    found: dict[str, dict[str, int]] = {}
    for line in read_text(path).splitlines():
        device, _, counted = line.partition(" ")
        kind, _, count = counted.partition(" ")
        number = to_int(count)
        if number is not None:
            found.setdefault(device, {})[kind] = number
    return found


def _times(number: int | None, factor: int) -> int | None:
    return None if number is None else number * factor
