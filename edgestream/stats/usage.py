"""What a cgroup uses at one moment, whichever version of cgroups tells it."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TICK = 10**9 // os.sysconf("SC_CLK_TCK")
"""The nanoseconds of one tick, the unit of some of the kernel's times."""

UNLIMITED = 1 << 62
"""A memory limit above this is none; the kernel rounds its greatest number to pages."""


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """Processor time, in nanoseconds since the cgroup exists, and its limits.

    Periods and throttling are those of a quota, and not known where there is none.
    """

    total: int
    user: int | None = None
    system: int | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled: int | None = None
    shares: int | None = None
    period_us: int | None = None
    quota_us: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Memory, in bytes, and its limits; a limit that is None does not exist.

    ``working_set`` is what can't be reclaimed easily: usage without inactive file pages.
    """

    usage: int | None = None
    working_set: int | None = None
    rss: int | None = None
    cache: int | None = None
    mapped_file: int | None = None
    active_file: int | None = None
    inactive_file: int | None = None
    kernel: int | None = None
    peak: int | None = None
    swap: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    limit_hits: int | None = None
    limit: int | None = None
    swap_limit: int | None = None
    reservation: int | None = None

    @property
    def available(self) -> int | None:
        """How much the working set may still grow; None where nothing limits it."""
        if self.limit is None or self.working_set is None:
            return None
        return max(self.limit - self.working_set, 0)

    @property
    def swap_available(self) -> int | None:
        """How much may still be swapped out; None where nothing limits it."""
        if self.swap_limit is None or self.swap is None:
            return None
        return max(self.swap_limit - self.swap, 0)


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """What was read from and written to one block device, named ``major:minor``."""

    device: str
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """All that is known of one cgroup, as it was at ``at``."""

    at: int
    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    processes: int | None = None
    threads: int | None = None
    thread_limit: int | None = None
    devices: tuple[DeviceUsage, ...] = ()


def working_set(usage: int | None, inactive_file: int | None) -> int | None:
    """Usage without inactive file pages, which are read at another moment: never below zero."""
    return None if usage is None else max(usage - (inactive_file or 0), 0)


def limit_or_none(limit: int | None) -> int | None:
    """The limit, if it is one."""
    return None if limit is None or limit > UNLIMITED else limit


def together(usages: Sequence[Usage]) -> Usage:
    """What one cgroup uses or several together, of what can be added up.

    What one of them does not know is left out of the sum.
    """
    cpus = [each.cpu.total for each in usages if each.cpu]
    memories = [each.memory for each in usages if each.memory]
    memory = MemoryUsage(
        usage=_sum(each.usage for each in memories),
        working_set=_sum(each.working_set for each in memories),
        rss=_sum(each.rss for each in memories),
        swap=_sum(each.swap for each in memories),
        page_faults=_sum(each.page_faults for each in memories),
        major_page_faults=_sum(each.major_page_faults for each in memories),
    )
    return Usage(
        at=max(each.at for each in usages),
        cpu=CpuUsage(sum(cpus)) if cpus else None,
        memory=memory if memories else None,
        processes=_sum(each.processes for each in usages),
    )


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
