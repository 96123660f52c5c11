"""What the runtime itself says a container uses, for where its cgroup is not in sight."""

from edgestream.cri import cri_pb2
from edgestream.stats.usage import CpuUsage, MemoryUsage, Usage


def usage_of(stats: cri_pb2.ContainerStats) -> Usage | None:
    """The same figures as a cgroup's; None if there are none, as of a container that ended."""
    if not stats.cpu.HasField("usage_core_nano_seconds"):
        return None
    return Usage(
        at=stats.cpu.timestamp,
        cpu=CpuUsage(stats.cpu.usage_core_nano_seconds.value),
        memory=_memory(stats) if stats.HasField("memory") else None,
    )


def _memory(stats: cri_pb2.ContainerStats) -> MemoryUsage:
    known: dict[str, int] = {
        field.name: value.value
        for message in (stats.memory, stats.swap)
        for field, value in message.ListFields()
        if field.name != "timestamp"
    }
    working_set = known.get("working_set_bytes")
    # containerd says that 0 is available where there is no limit.
    available = known.get("available_bytes")
    return MemoryUsage(
        usage=known.get("usage_bytes"),
        working_set=working_set,
        rss=known.get("rss_bytes"),
        swap=known.get("swap_usage_bytes"),
        page_faults=known.get("page_faults"),
        major_page_faults=known.get("major_page_faults"),
        limit=available + working_set if available and working_set is not None else None,
    )
