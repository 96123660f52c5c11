"""The parts of the document at ``/stats/summary``, in the shape and order that clients know.

What is not known is left out; so is what is available where nothing limits it.
"""

from collections.abc import Iterable
from typing import Any

from edgestream.kubelet.reply import to_time
from edgestream.stats.collector import ContainerFigures, NodeFigures, PodFigures
from edgestream.stats.filesystems import DirectoryUsage, FilesystemUsage
from edgestream.stats.procfs import InterfaceUsage
from edgestream.stats.usage import Usage

Document = dict[str, Any]

_DEFAULT_INTERFACE = "eth0"


def node_document(node_name: str, node: NodeFigures) -> Document:
    """The node's processors and memory."""
    return {
        "nodeName": node_name,
        "startTime": to_time(node.boot_time),
        **cpu_and_memory(node.usage, node.nano_cores),
    }


def pod_document(pod: PodFigures, containers: list[Document]) -> Document:
    """A pod's processors and memory, with its containers' documents."""
    sandbox = pod.running.sandbox
    return {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": sandbox.metadata.uid},
        "startTime": to_time(sandbox.created_at),
        "containers": containers,
        **cpu_and_memory(pod.usage, pod.nano_cores),
    }


def container_document(container: ContainerFigures) -> Document:
    """A container's processors and memory."""
    return {
        "name": container.name,
        "startTime": to_time(container.running.container.created_at),
        **cpu_and_memory(container.usage, container.nano_cores),
    }


def cpu_and_memory(usage: Usage, nano_cores: int | None) -> Document:
    """Both at the same time, that of the one look they come from."""
    time, cpu, memory = to_time(usage.at), usage.cpu, usage.memory
    document: Document = {}
    if cpu:
        document["cpu"] = _known(
            time=time, usageNanoCores=nano_cores, usageCoreNanoSeconds=cpu.total
        )
    if memory:
        document["memory"] = _known(
            time=time,
            availableBytes=memory.available,
            usageBytes=memory.usage,
            workingSetBytes=memory.working_set,
            rssBytes=memory.rss,
            pageFaults=memory.page_faults,
            majorPageFaults=memory.major_page_faults,
        )
    return document


def swap(usage: Usage) -> Document:
    """What is swapped out."""
    memory = usage.memory
    if memory is None or memory.swap is None:
        return {}
    return {
        "swap": _known(
            time=to_time(usage.at),
            swapAvailableBytes=memory.swap_available,
            swapUsageBytes=memory.swap,
        )
    }


def network(usage: Usage, interfaces: Iterable[InterfaceUsage] | None) -> Document:
    """All interfaces, and once more that of the usual name."""
    if interfaces is None:
        return {}
    documents = {
        each.name: {
            "name": each.name,
            "rxBytes": each.rx_bytes,
            "rxErrors": each.rx_errors,
            "txBytes": each.tx_bytes,
            "txErrors": each.tx_errors,
        }
        for each in interfaces
    }
    usual = documents.get(_DEFAULT_INTERFACE, {"name": ""})
    document = {"time": to_time(usage.at), **usual}
    if documents:
        document["interfaces"] = list(documents.values())
    return {"network": document}


def filesystem(found: FilesystemUsage) -> Document:
    """A whole filesystem."""
    return part_of(found, used=found.used, inodes_used=found.inodes - found.inodes_free)


def part_of(
    found: FilesystemUsage | None,
    *,
    used: int | None,
    inodes_used: int | None,
    at: int | None = None,
) -> Document:
    """What something takes up of a filesystem, in the kubelet's order."""
    return _known(
        time=to_time(at or (found.at if found else None)),
        availableBytes=found.available if found else None,
        capacityBytes=found.capacity if found else None,
        usedBytes=used,
        inodesFree=found.inodes_free if found else None,
        inodes=found.inodes if found else None,
        inodesUsed=inodes_used,
    )


def logs(found: FilesystemUsage, directory: DirectoryUsage | None) -> Document:
    """What a container's log files take up."""
    return part_of(
        found,
        used=directory.used if directory else None,
        inodes_used=directory.inodes if directory else None,
    )


def process_stats(pod: PodFigures) -> Document:
    """How many processes its containers have."""
    counts = [each.usage.processes for each in pod.containers]
    known = [count for count in counts if count is not None]
    return {"process_stats": {"process_count": sum(known)}} if known else {}


def _known(**fields: object) -> Document:
    return {name: value for name, value in fields.items() if value is not None}
