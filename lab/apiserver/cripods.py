"""Pods as a CRI shows them: sandboxes and containers made into Pod objects.

What a runtime can't know is filled in as for a pod of a Deployment that always restarts: a pod
whose sandbox stands is Running even if its containers have ended, so that kubectl lets requests
through to the node, which then has to say what is wrong.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lab.apiserver.config import NodeConfig
from lab.apiserver.store import Key, Object, timestamp

CALL_TIMEOUT = 5.0
"""Seconds for one CRI call."""

CriCall = Callable[..., Any]
"""``call(method, deadline=..., **fields)``, blocking, as ``lab.cri.Cri`` is called."""

_READY, _HOST_NETWORK = 0, 2
_CREATED, _RUNNING, _EXITED = 0, 1, 2
_KUBERNETES_LABEL = "io.kubernetes."
NAME_LABEL = "io.kubernetes.container.name"
EPHEMERAL_LABEL = "lab.local/ephemeral"
"""On containers that are a pod's ephemeral ones."""


@dataclass(frozen=True, slots=True)
class _Container:
    """What a verbose ContainerStatus says, as far as a Pod object shows it."""

    container_id: str
    name: str
    state: int
    image: str
    restart_count: int
    tty: bool
    stdin: bool
    ephemeral: bool
    command: tuple[str, ...]
    created_at: int
    started_at: int
    finished_at: int
    exit_code: int

    def state_object(self) -> Object:
        """The container's state as in ``status.containerStatuses[].state``."""
        started = _moment(self.started_at)
        if self.state == _RUNNING:
            return {"running": {"startedAt": started}}
        if self.state == _EXITED:
            ended = {
                "containerID": f"containerd://{self.container_id}",
                "exitCode": self.exit_code,
                "reason": "Completed" if self.exit_code == 0 else "Error",
                "startedAt": started,
                "finishedAt": _moment(self.finished_at),
            }
            return {"terminated": ended}
        return {"waiting": {"reason": "ContainerCreating"}}


@dataclass(slots=True)
class CriPods:
    """The pods of one node's runtime. Its calls block: use it from a thread, one at a time."""

    call: CriCall
    node: NodeConfig
    _containers: dict[tuple[str, int], _Container] = field(default_factory=dict)
    _networks: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def read(self) -> dict[Key, Object]:
        """All pods of the runtime; raises ``grpc.RpcError`` if it does not answer."""
        sandboxes = self._list("ListPodSandbox").items
        listed = self._list("ListContainers").containers
        of_sandbox = defaultdict(list)
        for container in sorted(listed, key=lambda each: each.created_at):
            of_sandbox[container.pod_sandbox_id].append(container)
        self._forget({(each.id, each.state) for each in listed}, {each.id for each in sandboxes})
        pods = {}
        for sandbox in sorted(sandboxes, key=lambda each: each.created_at):
            containers = [self._container(each) for each in of_sandbox[sandbox.id]]
            metadata = sandbox.metadata
            pods[metadata.namespace, metadata.name] = self._pod(sandbox, containers)
        return pods

    def _list(self, method: str, **fields: Any) -> Any:
        return self.call(method, deadline=CALL_TIMEOUT, **fields)

    def _forget(self, containers: set[tuple[str, int]], sandboxes: set[str]) -> None:
        for key in self._containers.keys() - containers:
            del self._containers[key]
        for sandbox_id in self._networks.keys() - sandboxes:
            del self._networks[sandbox_id]

    def _container(self, listed: Any) -> _Container:
        """Ask for the details, once per state that the container passes through."""
        key = listed.id, listed.state
        if key not in self._containers:
            reply = self._list("ContainerStatus", container_id=listed.id, verbose=True)
            self._containers[key] = _parse_status(reply)
        return self._containers[key]

    def _network(self, sandbox: Any) -> tuple[str, bool]:
        """The sandbox's address, and whether it is on the host's network."""
        if sandbox.id not in self._networks:
            status = self._list("PodSandboxStatus", pod_sandbox_id=sandbox.id).status
            on_host = status.linux.namespaces.options.network == _HOST_NETWORK
            ip = (self.node.address or "") if on_host else status.network.ip
            self._networks[sandbox.id] = ip, on_host
        return self._networks[sandbox.id]

    def _pod(self, sandbox: Any, containers: list[_Container]) -> Object:
        latest = {each.name: each for each in containers}
        before = {each.name: each for each in containers if each is not latest[each.name]}
        regular = [each for each in latest.values() if not each.ephemeral]
        ephemeral = [each for each in latest.values() if each.ephemeral]
        ip, on_host = self._network(sandbox)
        labels = {
            key: value
            for key, value in sandbox.labels.items()
            if not key.startswith(_KUBERNETES_LABEL)
        }
        metadata = {
            "name": sandbox.metadata.name,
            "namespace": sandbox.metadata.namespace,
            "uid": sandbox.metadata.uid,
            "creationTimestamp": _moment(sandbox.created_at),
            "labels": labels,
            "annotations": dict(sandbox.annotations),
        }
        spec = {
            "nodeName": self.node.name,
            "hostNetwork": on_host,
            "restartPolicy": "Always",
            "securityContext": {},
            "containers": [_container_spec(each) for each in regular],
        }
        statuses = [_container_status(each, before.get(each.name)) for each in regular]
        status = {
            "phase": _phase(sandbox.state == _READY, regular),
            "hostIP": self.node.address or "",
            "podIP": ip,
            "podIPs": [{"ip": ip}] if ip else [],
            "startTime": _moment(sandbox.created_at),
            "conditions": _conditions(all(each["ready"] for each in statuses)),
            "containerStatuses": statuses,
        }
        if ephemeral:
            spec["ephemeralContainers"] = [_container_spec(each) for each in ephemeral]
            status["ephemeralContainerStatuses"] = [
                _container_status(each, None) for each in ephemeral
            ]
        document = {"metadata": metadata, "spec": spec, "status": status}
        return {"kind": "Pod", "apiVersion": "v1", **document}


def _parse_status(reply: Any) -> _Container:
    status = reply.status
    config = json.loads(reply.info.get("info", "{}")).get("config") or {}
    return _Container(
        container_id=status.id,
        name=status.labels.get(NAME_LABEL) or status.metadata.name,
        state=status.state,
        image=status.image.image,
        restart_count=status.metadata.attempt,
        tty=bool(config.get("tty")),
        stdin=bool(config.get("stdin")),
        ephemeral=EPHEMERAL_LABEL in status.labels,
        command=tuple(config.get("command") or ()),
        created_at=status.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
    )


def _moment(nanoseconds: int) -> str | None:
    """A CRI time (nanoseconds since 1970, 0 = never) as the API writes it."""
    return timestamp(datetime.fromtimestamp(nanoseconds // 10**9, UTC)) if nanoseconds else None


def _container_spec(container: _Container) -> Object:
    return {
        "name": container.name,
        "image": container.image,
        "command": list(container.command),
        "stdin": container.stdin,
        "tty": container.tty,
    }


def _container_status(container: _Container, before: _Container | None) -> Object:
    running = container.state == _RUNNING
    return {
        "name": container.name,
        "image": container.image,
        "imageID": container.image,
        "containerID": f"containerd://{container.container_id}",
        "ready": running,
        "started": running,
        "restartCount": container.restart_count,
        "state": container.state_object(),
        "lastState": before.state_object() if before else {},
    }


def _phase(sandbox_ready: bool, containers: Iterable[_Container]) -> str:
    states = [each.state for each in containers]
    if sandbox_ready:
        return "Running" if any(state != _CREATED for state in states) else "Pending"
    if any(state == _RUNNING for state in states):
        return "Running"
    failed = any(each.exit_code for each in containers)
    return "Failed" if failed else "Succeeded"


def _conditions(ready: bool) -> list[Object]:
    return [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True" if ready else "False"},
    ]
