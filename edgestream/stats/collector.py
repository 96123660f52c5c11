"""One look at the node and at everything that runs on it."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import ContainerStats
from edgestream.stats.cgroups import open_cgroups, pod_cgroup
from edgestream.stats.inventory import Inventory, RunningContainer, RunningPod
from edgestream.stats.node import node_usage, own_interfaces
from edgestream.stats.procfs import InterfaceUsage, ProcFs
from edgestream.stats.rates import CpuRates
from edgestream.stats.runtime import usage_of
from edgestream.stats.usage import Usage, together
from edgestream.threads import Threads
from streamkit.errors import StreamError

log = logging.getLogger(__name__)

ROOT = "/"
"""The cgroup of the node."""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What the node uses; ``nano_cores`` is the present rate, in billionths of a processor."""

    usage: Usage
    nano_cores: int | None
    interfaces: tuple[InterfaceUsage, ...]
    boot_time: int | None


@dataclass(frozen=True, slots=True)
class ContainerFigures:
    """What a running container uses; ``stats`` is the runtime's word, where it was asked."""

    running: RunningContainer
    usage: Usage
    nano_cores: int | None
    stats: ContainerStats | None

    @property
    def name(self) -> str:
        """The container's name in its pod."""
        return self.running.container.metadata.name


@dataclass(frozen=True, slots=True)
class PodFigures:
    """What a pod uses: all of it, with its sandbox, if ``cgroup`` is known, else its containers.

    ``interfaces`` is None where the pod has no network of its own, or where that is not in sight.
    """

    running: RunningPod
    cgroup: str | None
    usage: Usage
    nano_cores: int | None
    interfaces: tuple[InterfaceUsage, ...] | None
    containers: tuple[ContainerFigures, ...]

    @property
    def name(self) -> str:
        """The pod's name."""
        return self.running.sandbox.metadata.name

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return self.running.sandbox.metadata.namespace


@dataclass(frozen=True, slots=True)
class _Reading:
    """What files tell of one pod: its containers by id."""

    pod: Usage | None
    interfaces: tuple[InterfaceUsage, ...] | None
    containers: Mapping[str, Usage]


class Collector:
    """Looks below ``cgroup_root`` and ``proc_root``, in ``threads``, and asks the runtime.

    Concurrent looks are independent, and none of them changes what another one sees.
    """

    def __init__(
        self, client: CriClient, threads: Threads, *, cgroup_root: Path, proc_root: Path
    ) -> None:
        self._client = client
        self._threads = threads
        self._cgroups = open_cgroups(cgroup_root)
        self.proc = ProcFs(proc_root)
        self.inventory = Inventory(client, self._cgroups, self.proc, threads)
        self._rates = CpuRates()

    async def node(self) -> NodeFigures:
        """The node's figures. Raises BackendError where the kernel's files take too long."""
        usage, interfaces, boot_time = await self._threads.run(self._read_node)
        return NodeFigures(usage, self._rate(ROOT, usage), interfaces, boot_time)

    async def pods(self, *, with_stats: bool = False) -> Sequence[PodFigures]:
        """The figures of all pods with a running container, oldest first.

        They are the kernel's; the runtime's are taken for containers whose cgroup is not in sight,
        and asked for in any case ``with_stats``. Runtimes fail to list these as a whole for the
        sake of one container: what they would have told is then not known.

        Raises what ``Inventory.running`` raises, and BackendError as ``node`` does.
        """
        running = await self.inventory.running()
        readings = await self._threads.run(lambda: [self._read_pod(pod) for pod in running])
        used = [each for reading in readings for each in reading.containers.values()]
        is_complete = all(usage.cpu and usage.memory for usage in used)
        stats = {} if is_complete and not with_stats else await self._runtime_stats()
        figures = [
            self._pod_figures(pod, reading, stats)
            for pod, reading in zip(running, readings, strict=True)
        ]
        containers = [each.container.id for pod in running for each in pod.containers]
        self._rates.keep([ROOT, *(pod.sandbox.id for pod in running), *containers])
        return figures

    async def _runtime_stats(self) -> Mapping[str, ContainerStats]:
        try:
            stats = await self._client.container_stats()
        except StreamError as error:
            log.debug("the runtime does not tell what containers use: %s", error)
            return {}
        return {each.attributes.id: each for each in stats}

    def _read_node(self) -> tuple[Usage, tuple[InterfaceUsage, ...], int | None]:
        usage = node_usage(self._cgroups, self.proc)
        return usage, own_interfaces(self.proc), self.proc.boot_time()

    def _read_pod(self, pod: RunningPod) -> _Reading:
        details = pod.details
        cgroup = _cgroup_of(pod)
        has_network = details.cgroup is not None and not details.has_host_network
        return _Reading(
            pod=None if cgroup is None else self._cgroups.read(cgroup),
            interfaces=own_interfaces(self.proc, details.pid) if has_network else None,
            containers={
                each.container.id: Usage(at=time.time_ns())
                if each.details.cgroup is None
                else self._cgroups.read(each.details.cgroup)
                for each in pod.containers
            },
        )

    def _pod_figures(
        self, pod: RunningPod, reading: _Reading, stats: Mapping[str, ContainerStats]
    ) -> PodFigures:
        containers = tuple(
            self._container_figures(each, reading.containers[each.container.id], stats)
            for each in pod.containers
        )
        usage, cgroup = reading.pod, _cgroup_of(pod)
        if usage is None or usage.cpu is None or usage.memory is None:
            usage, cgroup = together([each.usage for each in containers]), None
        return PodFigures(
            running=pod,
            cgroup=cgroup,
            usage=usage,
            nano_cores=self._rate(pod.sandbox.id, usage),
            interfaces=reading.interfaces or None,
            containers=containers,
        )

    def _container_figures(
        self, running: RunningContainer, usage: Usage, stats: Mapping[str, ContainerStats]
    ) -> ContainerFigures:
        own_stats = stats.get(running.container.id)
        if own_stats and not (usage.cpu and usage.memory):
            usage = usage_of(own_stats) or usage
        rate = self._rate(running.container.id, usage)
        return ContainerFigures(running, usage, rate, own_stats)

    def _rate(self, key: str, usage: Usage) -> int | None:
        return self._rates.observe(key, at=usage.at, used=usage.cpu.total) if usage.cpu else None


def _cgroup_of(pod: RunningPod) -> str | None:
    own = pod.details.cgroup
    return None if own is None else pod_cgroup(own, pod.sandbox.metadata.uid)
