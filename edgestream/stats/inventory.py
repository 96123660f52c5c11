"""The pods and containers that run, and where the kernel accounts for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import (
    CONTAINER_RUNNING,
    NODE,
    SANDBOX_READY,
    Container,
    PodSandbox,
)
from edgestream.cri.lookup import oldest_first
from edgestream.cri.verbose import verbose_info
from edgestream.stats.cgroups import Cgroups, locate
from edgestream.stats.procfs import ProcFs
from edgestream.threads import Threads


@dataclass(frozen=True, slots=True)
class SandboxDetails:
    """What does not change while a sandbox is ready.

    ``cgroup`` is None where it is not in sight; ``pid`` may then be somebody else's.
    """

    pid: int
    cgroup: str | None
    image: str
    has_host_network: bool


@dataclass(frozen=True, slots=True)
class ContainerDetails:
    """What does not change while a container runs."""

    cgroup: str | None
    image: str
    log_directory: str


@dataclass(frozen=True, slots=True)
class RunningContainer:
    """A container that runs."""

    container: Container
    details: ContainerDetails


@dataclass(frozen=True, slots=True)
class RunningPod:
    """A ready sandbox, with those of its containers that run, oldest first."""

    sandbox: PodSandbox
    details: SandboxDetails
    containers: tuple[RunningContainer, ...]


class Inventory:
    """Asks the runtime what runs; about each only once for what it keeps to itself otherwise."""

    def __init__(self, client: CriClient, cgroups: Cgroups, proc: ProcFs, threads: Threads) -> None:
        self._client = client
        self._cgroups = cgroups
        self._proc = proc
        self._threads = threads
        self._sandboxes: dict[str, SandboxDetails] = {}
        self._containers: dict[str, ContainerDetails] = {}

    async def running(self) -> list[RunningPod]:
        """All pods that have a container that runs, oldest first.

        Raises RuntimeUnavailable, and the KubeletAnswer that the runtime's refusal is.
        """
        sandboxes = oldest_first(
            box for box in await self._client.sandboxes({}) if box.state == SANDBOX_READY
        )
        containers = oldest_first(
            each for each in await self._client.containers({}) if each.state == CONTAINER_RUNNING
        )
        _forget_others(self._sandboxes, sandboxes)
        _forget_others(self._containers, containers)
        found = []
        for sandbox in sandboxes:
            own = [each for each in containers if each.pod_sandbox_id == sandbox.id]
            pairs = [(each, await self._container(each.id)) for each in own]
            known = tuple(RunningContainer(each, details) for each, details in pairs if details)
            if known and (details := await self._sandbox(sandbox.id)):
                found.append(RunningPod(sandbox, details, known))
        return found

    async def _sandbox(self, sandbox_id: str) -> SandboxDetails | None:
        if known := self._sandboxes.get(sandbox_id):
            return known
        try:
            answer = await self._client.sandbox_status(sandbox_id, verbose=True)
        except KubeletAnswer:  # it was removed in the meantime
            return None
        info = verbose_info(answer.info)
        pid, cgroup = await self._locate(info, sandbox_id)
        image = info.get("image")
        details = SandboxDetails(
            pid=pid,
            cgroup=cgroup,
            image=image if isinstance(image, str) else "",
            has_host_network=answer.status.linux.namespaces.options.network == NODE,
        )
        self._sandboxes[sandbox_id] = details
        return details

    async def _container(self, container_id: str) -> ContainerDetails | None:
        if known := self._containers.get(container_id):
            return known
        try:
            answer = await self._client.container_status(container_id, verbose=True)
        except KubeletAnswer:  # it was removed in the meantime
            return None
        _, cgroup = await self._locate(verbose_info(answer.info), container_id)
        status = answer.status
        details = ContainerDetails(
            cgroup=cgroup,
            image=status.image.image,
            log_directory=str(PurePath(status.log_path).parent) if status.log_path else "",
        )
        self._containers[container_id] = details
        return details

    async def _locate(self, info: dict[str, Any], owner_id: str) -> tuple[int, str | None]:
        pid = info.get("pid")
        if not isinstance(pid, int) or pid <= 0:
            return 0, None
        return pid, await self._threads.run(locate, self._cgroups, self._proc, pid, owner_id)


class _Thing(Protocol):
    id: str


def _forget_others(known: dict[str, Any], present: Sequence[_Thing]) -> None:
    for each_id in known.keys() - {each.id for each in present}:
        del known[each_id]
