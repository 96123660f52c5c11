"""Which sandbox or container a request means, found the way a kubelet finds it.

A runtime knows pods only by labels: name, namespace and uid on every sandbox and container. Two
pods of one name can exist side by side, while the older one of a StatefulSet still terminates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import (
    CONTAINER_EXITED,
    CONTAINER_RUNNING,
    SANDBOX_READY,
    Container,
    ContainerStatus,
    PodSandbox,
)

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
RESTART_COUNT = "io.kubernetes.container.restartCount"
CONFIG_SOURCE = "kubernetes.io/config.source"


class _Created(Protocol):
    created_at: int


_Thing = TypeVar("_Thing", bound=_Created)


def oldest_first(things: Iterable[_Thing]) -> tuple[_Thing, ...]:
    """By time of creation; attempt numbers start anew after a reboot and can't tell."""
    return tuple(sorted(things, key=lambda thing: thing.created_at))


def _newest_first(things: Iterable[_Thing]) -> tuple[_Thing, ...]:
    return tuple(sorted(things, key=lambda thing: thing.created_at, reverse=True))


@dataclass(frozen=True, slots=True)
class RuntimePod:
    """All that a runtime holds under one pod name, of any uid and in any state, newest first."""

    name: str
    namespace: str
    sandboxes: tuple[PodSandbox, ...]
    containers: tuple[Container, ...]

    @property
    def full_name(self) -> str:
        """Name and namespace as the kubelet writes them into its messages."""
        return f"{self.name}_{self.namespace}"

    @property
    def exists(self) -> bool:
        """Whether the runtime knows anything of that name."""
        return bool(self.sandboxes or self.containers)

    @property
    def uid(self) -> str:
        """The uid of the newest pod, running or not; empty if there is none."""
        if self.sandboxes:
            return self.sandboxes[0].labels[POD_UID]
        return self.containers[0].labels[POD_UID] if self.containers else ""

    @property
    def active_uid(self) -> str | None:
        """The uid of the newest pod with a ready sandbox, else of one with a running container."""
        ready = [box.labels[POD_UID] for box in self.sandboxes if box.state == SANDBOX_READY]
        running = [
            container.labels[POD_UID]
            for container in self.containers
            if container.state == CONTAINER_RUNNING
        ]
        return next(iter(ready + running), None)

    def has_uid(self, api_uid: str, runtime_uid: str) -> bool:
        """Whether that uid, as the API server has it, can be that of the runtime's pod.

        A static pod has two uids, the API server's one is its mirror pod's: any will do.
        """
        boxes = [box for box in self.sandboxes if box.labels[POD_UID] == runtime_uid]
        is_static = any(box.annotations.get(CONFIG_SOURCE, "api") != "api" for box in boxes)
        return is_static or api_uid == runtime_uid

    def running_container(self, container_name: str) -> Container | None:
        """The container of that name to talk to: a running one of the active pod."""
        uid = self.active_uid
        return next(
            (
                container
                for container in self._attempts(uid or "", container_name)
                if container.state == CONTAINER_RUNNING
            ),
            None,
        )

    def forward_sandbox(self) -> PodSandbox:
        """The sandbox whose ports are forwarded. Raises a KubeletAnswer if there is none."""
        uid = self.active_uid
        if uid is None:
            raise KubeletAnswer(500, f'pod not found ("{self.full_name}")')
        for sandbox in self.sandboxes:
            if sandbox.labels[POD_UID] == uid:
                return sandbox
        raise KubeletAnswer(500, f"failed to find sandboxID for pod {self.full_name}({uid})")

    def log_attempts(self, container_name: str) -> tuple[Container | None, Container | None]:
        """The last two attempts at that container in the newest pod, across all its sandboxes."""
        newest, second, *_ = (*self._attempts(self.uid, container_name), None, None)
        return newest, second

    @property
    def has_ready_sandbox(self) -> bool:
        """Whether the newest pod has one, so that its containers may be restarted."""
        return any(
            box.state == SANDBOX_READY and box.labels[POD_UID] == self.uid for box in self.sandboxes
        )

    def _attempts(self, uid: str, container_name: str) -> Sequence[Container]:
        return [
            container
            for container in self.containers
            if container.labels[POD_UID] == uid
            and container.labels[CONTAINER_NAME] == container_name
        ]


async def find_pod(client: CriClient, namespace: str, name: str) -> RuntimePod:
    """Ask the runtime for everything of that pod name. Raises what ``CriClient`` raises."""
    labels = {POD_NAMESPACE: namespace, POD_NAME: name}
    sandboxes = _newest_first(await client.sandboxes(labels))
    containers = _newest_first(await client.containers(labels))
    return RuntimePod(name, namespace, sandboxes, containers)


@dataclass(frozen=True, slots=True)
class LogTarget:
    """A container whose log is to be read, and the file's path as the runtime states it."""

    container_id: str
    log_path: str


async def find_log(
    client: CriClient, pod: RuntimePod, container_name: str, *, previous: bool
) -> LogTarget:
    """The log that a kubelet would read, given what the runtime knows of the pod.

    A kubelet decides by the pod's status, which also tells the reasons for waiting and whether a
    container counts as terminated or as waiting for its restart. These are inferred here, in
    ``_waits_for_restart`` and ``_waiting``, which is where facts from the API server would enter.

    Raises a KubeletAnswer where there is no such log.
    """
    newest, second = pod.log_attempts(container_name)
    ended = second if second and second.state == CONTAINER_EXITED else None
    if previous:
        if newest and await _waits_for_restart(client, pod, newest):
            ended = newest
        if ended is None:
            raise _bad_log_request(
                f'previous terminated container "{container_name}" in pod "{pod.name}" not found'
            )
        chosen = ended
    elif newest is None:
        raise _waiting(pod, container_name, "ContainerCreating")
    elif newest.state in (CONTAINER_RUNNING, CONTAINER_EXITED):
        chosen = newest
    elif ended is None:
        raise _waiting(pod, container_name, "")
    else:
        chosen = ended
    return LogTarget(chosen.id, (await _status(client, chosen)).log_path)


async def _waits_for_restart(client: CriClient, pod: RuntimePod, newest: Container) -> bool:
    """Whether the kubelet shows that attempt as the last state of a container in back-off.

    That is inferred from an exit with an error, not the first one, in a pod that is still up.
    """
    restarts = newest.annotations.get(RESTART_COUNT, "") or str(newest.metadata.attempt)
    if newest.state != CONTAINER_EXITED or not pod.has_ready_sandbox or restarts == "0":
        return False
    return (await _status(client, newest)).exit_code != 0


async def _status(client: CriClient, container: Container) -> ContainerStatus:
    try:
        return (await client.container_status(container.id)).status
    except KubeletAnswer as error:
        # The API server would replace the body of the 404 that a removed container gets.
        raise _bad_log_request(
            f"unable to retrieve container logs for containerd://{container.id}"
        ) from error


def _waiting(pod: RuntimePod, container_name: str, reason: str) -> KubeletAnswer:
    return _bad_log_request(
        f'container "{container_name}" in pod "{pod.name}" is waiting to start: {reason}'
    )


def _bad_log_request(body: str) -> KubeletAnswer:
    """A kubelet has declared its answer chunked by then, which costs it the Content-Type."""
    return KubeletAnswer(400, body, headers=())
