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
    CONTAINER_RUNNING,
    SANDBOX_READY,
    Container,
    PodSandbox,
)
from streamkit.wire.pod_facts import PodFacts

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
    """All that a runtime holds under one pod name, of any uid and in any state, newest first.

    ``facts`` are the API server's, as the cloud told them; where both know, the runtime is right.
    """

    name: str
    namespace: str
    sandboxes: tuple[PodSandbox, ...]
    containers: tuple[Container, ...]
    facts: PodFacts | None = None

    @property
    def full_name(self) -> str:
        """Name and namespace as the kubelet writes them into its messages."""
        return f"{self.name}_{self.namespace}"

    @property
    def exists(self) -> bool:
        """Whether the runtime knows anything of that name."""
        return bool(self.sandboxes or self.containers)

    @property
    def is_known(self) -> bool:
        """Whether there is such a pod: the runtime has one, or the API server has it by now."""
        return self.exists or (self.facts is not None and self.facts.is_current)

    @property
    def uid(self) -> str:
        """The uid of the newest pod, running or not; empty if there is none.

        That is the API server's one, where nothing lives that the runtime has: the sandbox is yet
        to come, and what there is was a former pod's.
        """
        things = self.sandboxes or self.containers
        newest = things[0].labels[POD_UID] if things else ""
        if self.facts is None or self.active_uid is not None:
            return newest
        return self.facts.runtime_uid if self.facts.is_current or not newest else newest

    @property
    def own_facts(self) -> PodFacts | None:
        """The facts, if they are about the pod that has ``uid``."""
        return self.facts if self.facts and self.facts.runtime_uid == self.uid else None

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

        A static pod has two uids, the API server's one is its mirror pod's. Where the facts do not
        tell that one, any will do.
        """
        facts = self.facts
        if facts and facts.is_current and facts.runtime_uid == runtime_uid:
            return api_uid in (facts.uid, runtime_uid)
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
    def has_sandbox(self) -> bool:
        """Whether the newest pod has one, ready or not."""
        uid = self.uid
        return any(box.labels[POD_UID] == uid for box in self.sandboxes)

    @property
    def has_ready_sandbox(self) -> bool:
        """Whether the newest pod has one, so that its containers may be restarted."""
        uid = self.uid
        return any(
            box.state == SANDBOX_READY and box.labels[POD_UID] == uid for box in self.sandboxes
        )

    def _attempts(self, uid: str, container_name: str) -> Sequence[Container]:
        return [
            container
            for container in self.containers
            if container.labels[POD_UID] == uid
            and container.labels[CONTAINER_NAME] == container_name
        ]


async def find_pod(
    client: CriClient, namespace: str, name: str, facts: PodFacts | None = None
) -> RuntimePod:
    """Ask the runtime for everything of that pod name. Raises what ``CriClient`` raises."""
    labels = {POD_NAMESPACE: namespace, POD_NAME: name}
    sandboxes = _newest_first(await client.sandboxes(labels))
    containers = _newest_first(await client.containers(labels))
    return RuntimePod(name, namespace, sandboxes, containers, facts)
