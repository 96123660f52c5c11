"""``/pods`` and ``/runningpods/``: pods as a runtime knows them, written as Pod objects.

A runtime has no specifications: it knows a container's name and image, and how it fares. A pod's
phase, and whether a container is ready, are derived from that.
"""

from collections.abc import Sequence
from typing import Any

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import (
    CONTAINER_EXITED,
    CONTAINER_RUNNING,
    NODE,
    SANDBOX_READY,
    Container,
    ContainerStatus,
    PodSandbox,
)
from edgestream.cri.lookup import POD_UID, oldest_first
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.reply import JSON, reply, require_json_wanted, to_json, to_time
from edgestream.kubelet.router import Parameters

Object = dict[str, Any]

_RUNTIME_LABELS = "io.kubernetes."


class Pods:
    """The two routes. Both raise what ``CriClient`` raises where the runtime does not tell."""

    def __init__(self, client: CriClient, *, node_name: str) -> None:
        self._client = client
        self._node_name = node_name

    async def list_all(self, exchange: Exchange, parameters: Parameters) -> None:
        """All pods that the runtime still has, ended ones as well."""
        require_json_wanted(exchange.request)
        sandboxes = {
            box.labels[POD_UID]: box for box in oldest_first(await self._client.sandboxes({}))
        }
        containers = oldest_first(await self._client.containers({}))
        pods = [
            await self._pod(box, [each for each in containers if each.labels[POD_UID] == uid])
            for uid, box in sandboxes.items()
        ]
        await _send(exchange, [pod for pod in pods if pod])

    async def list_running(self, exchange: Exchange, parameters: Parameters) -> None:
        """Pods that are ready, with the containers that run in them, and nothing more."""
        require_json_wanted(exchange.request)
        ready = [box for box in await self._client.sandboxes({}) if box.state == SANDBOX_READY]
        running = [
            each for each in await self._client.containers({}) if each.state == CONTAINER_RUNNING
        ]
        pods = []
        for box in oldest_first(ready):
            own = [each for each in oldest_first(running) if each.pod_sandbox_id == box.id]
            metadata = {
                "name": box.metadata.name,
                "namespace": box.metadata.namespace,
                "uid": box.metadata.uid,
                "creationTimestamp": None,
            }
            spec = {"containers": [_specification(each) for each in own] or None}
            pods.append({"metadata": metadata, "spec": spec, "status": {}})
        await _send(exchange, pods)

    async def _pod(self, sandbox: PodSandbox, containers: Sequence[Container]) -> Object | None:
        """The pod as an object; None if it was removed in the meantime."""
        latest = {each.metadata.name: each for each in containers}
        try:
            box = (await self._client.sandbox_status(sandbox.id)).status
            answers = [await self._client.container_status(each.id) for each in latest.values()]
        except KubeletAnswer:
            return None
        statuses = [answer.status for answer in answers]
        runtime_name = (await self._client.version()).runtime_name
        started = to_time(sandbox.created_at)
        labels = sandbox.labels.items()
        metadata = {
            "name": sandbox.metadata.name,
            "namespace": sandbox.metadata.namespace,
            "uid": sandbox.metadata.uid,
            "creationTimestamp": started,
            "labels": {key: text for key, text in labels if not key.startswith(_RUNTIME_LABELS)},
            "annotations": dict(sandbox.annotations),
        }
        spec: Object = {
            "containers": [_specification(each) for each in latest.values()] or None,
            "nodeName": self._node_name,
        }
        if box.linux.namespaces.options.network == NODE:
            spec["hostNetwork"] = True
        status: Object = {"phase": _phase(sandbox, statuses), "startTime": started}
        if box.network.ip:
            addresses = [box.network.ip, *(each.ip for each in box.network.additional_ips)]
            status["podIP"] = box.network.ip
            status["podIPs"] = [{"ip": address} for address in addresses]
        status["containerStatuses"] = [
            _container_status(each, f"{runtime_name}://{each.id}") for each in statuses
        ]
        return {"metadata": metadata, "spec": spec, "status": status}


def _specification(container: Container) -> Object:
    image = container.image.image
    return {"name": container.metadata.name, "image": image, "resources": {}}


def _container_status(status: ContainerStatus, address: str) -> Object:
    is_running = status.state == CONTAINER_RUNNING
    return {
        "name": status.metadata.name,
        "state": _state(status, address),
        "lastState": {},
        "ready": is_running,
        "restartCount": status.metadata.attempt,
        "image": status.image.image,
        "imageID": status.image_ref,
        "containerID": address,
        "started": is_running,
    }


def _state(status: ContainerStatus, address: str) -> Object:
    started = to_time(status.started_at)
    if status.state == CONTAINER_RUNNING:
        return {"running": {"startedAt": started}}
    if status.state == CONTAINER_EXITED:
        ended = {
            "exitCode": status.exit_code,
            "reason": status.reason,
            "startedAt": started,
            "finishedAt": to_time(status.finished_at),
            "containerID": address,
        }
        return {"terminated": ended}
    return {"waiting": {}}


def _phase(sandbox: PodSandbox, statuses: Sequence[ContainerStatus]) -> str:
    """A pod whose sandbox stands may have its ended containers started again."""
    states = [status.state for status in statuses]
    if CONTAINER_RUNNING in states:
        return "Running"
    if sandbox.state == SANDBOX_READY:
        return "Running" if CONTAINER_EXITED in states else "Pending"
    has_failed = any(status.exit_code for status in statuses)
    return "Failed" if has_failed else "Succeeded"


async def _send(exchange: Exchange, pods: list[Object]) -> None:
    """Send a list as Go does, with a null for no pods at all."""
    document: Object = {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {},
        "items": pods or None,
    }
    await reply(exchange, to_json(document) + b"\n", JSON)
