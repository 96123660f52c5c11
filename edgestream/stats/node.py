"""What the node as a whole uses."""

import time
from collections.abc import Mapping
from dataclasses import replace

from edgestream.stats.cgroups import Cgroups
from edgestream.stats.procfs import InterfaceUsage, ProcFs
from edgestream.stats.usage import CpuUsage, MemoryUsage, Usage, working_set

_VIRTUAL = ("lo", "veth", "docker", "nerdctl")


def node_usage(cgroups: Cgroups, proc: ProcFs) -> Usage:
    """The root cgroup's usage; /proc's where it is not in sight, as in a container.

    The memory limit is the node's memory, the swap is that of the whole node.
    """
    meminfo = proc.memory()
    root = cgroups.read_root()
    cpu = root.cpu
    if cpu is None and (busy := proc.cpu_usage()) is not None:
        cpu = CpuUsage(busy)
    memory = root.memory or _memory(meminfo)
    swap = meminfo.get("SwapTotal")
    if memory:
        memory = replace(
            memory,
            limit=meminfo.get("MemTotal"),
            swap=None if swap is None else swap - meminfo.get("SwapFree", swap),
            swap_limit=swap,
            reservation=None,
        )
    return replace(root, at=time.time_ns(), cpu=cpu, memory=memory)


def own_interfaces(proc: ProcFs, pid: int | None = None) -> tuple[InterfaceUsage, ...]:
    """A process's interfaces, or the node's, without loopback and those that containers hang on."""
    return tuple(each for each in proc.interfaces(pid) if not each.name.startswith(_VIRTUAL))


def _memory(meminfo: Mapping[str, int]) -> MemoryUsage | None:
    """What programs and files hold, as version 2 of cgroups counts it."""
    names = ("AnonPages", "Active(file)", "Inactive(file)")
    if not meminfo.keys() >= set(names):
        return None
    anonymous, active, inactive = (meminfo[name] for name in names)
    usage = anonymous + active + inactive
    return MemoryUsage(
        usage=usage,
        working_set=working_set(usage, inactive),
        rss=anonymous,
        cache=active + inactive,
        mapped_file=meminfo.get("Mapped"),
        active_file=active,
        inactive_file=inactive,
    )
