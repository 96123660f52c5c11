"""All objects there are, and where a pod's or a node's kubelet port is."""

import asyncio
import contextlib
import copy
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import grpc

from lab.apiserver.config import Address, Config, NodeConfig, parse_address
from lab.apiserver.cripods import CriPods
from lab.apiserver.discovery import VERSION
from lab.apiserver.kubelet import KubeletPort
from lab.apiserver.status import not_found, plain_error
from lab.apiserver.store import Collection, Key, Object, Versions, timestamp

DEFAULT_KUBELET_PORT = 10250
READ_PATIENCE = 0.7
"""Seconds that requests wait for a runtime that is known already."""

_SYSTEM_INFO = (
    *("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion"),
    *("kubeletVersion", "machineID", "operatingSystem", "osImage", "systemUUID"),
)
"""The fields of ``status.nodeInfo``, all of which typed clients insist on."""


class World:
    """The collections by resource name; pods are brought up to date on each ``refresh_pods``."""

    def __init__(self, config: Config, sources: Sequence[CriPods]) -> None:
        self.versions = Versions()
        self.nodes = Collection(self.versions, "Node", "nodes")
        self.config_maps = Collection(self.versions, "ConfigMap", "configmaps")
        self.namespaces = Collection(self.versions, "Namespace", "namespaces")
        self.pods = Collection(self.versions, "Pod", "pods")
        self.collections = {
            each.resource: each
            for each in (self.nodes, self.config_maps, self.namespaces, self.pods)
        }
        self._sources = sources
        self._last_read: dict[str, dict[Key, Object]] = {}
        self._readings: dict[str, tuple[float, asyncio.Task[dict[Key, Object]]]] = {}
        self._refreshing = asyncio.Lock()
        self._read_since = float("-inf")
        self._dial: dict[str, Address] = {}
        for node in config.nodes:
            self.nodes.create("", _node_object(node))
            if node.dial:
                self._dial[node.name] = parse_address(node.dial)
        for name in config.namespaces:
            self._add_namespace(name)
        self._static: dict[Key, Object] = {}
        for given in config.pods:
            pod = _static_pod(given)
            self._static[pod["metadata"]["namespace"], pod["metadata"]["name"]] = pod

    async def refresh_pods(self) -> None:
        """Read the pods of all runtimes; those of a runtime that does not answer stay as they were.

        As in a real cluster, whose pods do not vanish with their node. Callers that come while
        one reads are served by one more reading together.
        """
        asked = time.monotonic()
        async with self._refreshing:
            if self._read_since > asked:
                return
            since = time.monotonic()
            found = dict(self._static)
            for source in self._sources:
                found |= await self._read(source)
            self.pods.observe(found)
            self._read_since = since
            for namespace, _ in found:
                self._add_namespace(namespace)

    async def _read(self, source: CriPods) -> dict[Key, Object]:
        """A runtime's pods as they are now, or as they were where it does not answer soon."""
        name = source.node.name
        # One that a caller did not see to its end may still be under way.
        if name in self._readings and not await self._is_done(name):
            return self._last_read[name]
        reading = asyncio.create_task(asyncio.to_thread(source.read))
        reading.add_done_callback(_forget_failure)
        self._readings[name] = time.monotonic(), reading
        if await self._is_done(name):
            with contextlib.suppress(grpc.RpcError):
                self._last_read[name] = reading.result()
        return self._last_read.setdefault(name, {})

    async def _is_done(self, name: str) -> bool:
        """Whether a runtime's reading ends in time. There is none while nothing is known of it."""
        since, reading = self._readings[name]
        patience = None
        if name in self._last_read:
            patience = max(0.0, since + READ_PATIENCE - time.monotonic())
        await asyncio.wait((reading,), timeout=patience)
        return reading.done()

    async def get_pod(self, namespace: str, name: str) -> Object:
        """The pod as it is now; raises ApiError 404."""
        await self.refresh_pods()
        return self.pods.get((namespace, name))

    def kubelet_port(self, node_name: str, *, resource: str) -> KubeletPort:
        """Where the API server finds a node's kubelet: its InternalIP and its published port.

        Raises ApiError: 404 that names the ``resource`` asked for if there is no such node, 500 if
        the node has no InternalIP.
        """
        if ("", node_name) not in self.nodes:
            raise not_found(resource, node_name)
        status = self.nodes.get(("", node_name)).get("status", {})
        addresses = status.get("addresses") or []
        host = next((each["address"] for each in addresses if each["type"] == "InternalIP"), None)
        if host is None:
            known = " ".join(f"{{{each['type']} {each['address']}}}" for each in addresses)
            raise plain_error(f"no preferred addresses found; known addresses: [{known}]")
        endpoint = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {})
        port = endpoint.get("Port") or DEFAULT_KUBELET_PORT
        return KubeletPort(host, port, self._dial.get(node_name))

    def source_of(self, node_name: str) -> CriPods | None:
        """The runtime that a node's pods are read from, if it is one of the lab's."""
        return next((each for each in self._sources if each.node.name == node_name), None)

    def declares(self, node_name: str, feature: str) -> bool:
        """Whether the Node's ``status.declaredFeatures`` lists the feature."""
        if ("", node_name) not in self.nodes:
            return False
        status = self.nodes.get(("", node_name)).get("status", {})
        return feature in (status.get("declaredFeatures") or ())

    def _add_namespace(self, name: str) -> None:
        if ("", name) not in self.namespaces:
            self.namespaces.create("", {"metadata": {"name": name}, "status": {"phase": "Active"}})


def _forget_failure(reading: asyncio.Task[dict[Key, Object]]) -> None:
    if not reading.cancelled():
        reading.exception()


def _node_object(node: NodeConfig) -> Object:
    now = timestamp(datetime.now(UTC))
    addresses = [{"type": "InternalIP", "address": node.address}] if node.address else []
    ready = {
        "type": "Ready",
        "status": "True" if node.ready else "Unknown",
        "reason": "KubeletReady" if node.ready else "NodeStatusUnknown",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    system = dict.fromkeys(_SYSTEM_INFO, "lab") | {"kubeletVersion": VERSION["gitVersion"]}
    status: dict[str, Any] = {
        "addresses": [*addresses, {"type": "Hostname", "address": node.name}],
        "conditions": [ready],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": node.port}},
        "nodeInfo": system,
    }
    capacity = {"cpu": str(os.cpu_count()), "memory": f"{_memory_size() // 1024}Ki"}
    status |= {"capacity": capacity, "allocatable": capacity}
    if node.declared_features:
        status["declaredFeatures"] = list(node.declared_features)
    labels = {"kubernetes.io/hostname": node.name, **node.labels}
    return {"metadata": {"name": node.name, "labels": labels}, "spec": {}, "status": status}


def _memory_size() -> int:
    """This machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _static_pod(given: Object) -> Object:
    """Fill in what a configured pod leaves out: it is Pending without a node, else it runs."""
    pod = copy.deepcopy(given)
    now = timestamp(datetime.now(UTC))
    metadata = {"namespace": "default", "creationTimestamp": now, **pod.get("metadata", {})}
    metadata.setdefault("uid", f"static-{metadata['namespace']}-{metadata['name']}")
    assumed_spec = {"containers": [{"name": "app", "image": "none"}], "securityContext": {}}
    spec = assumed_spec | pod.get("spec", {})
    running = {"ready": True, "restartCount": 0, "state": {"running": {"startedAt": now}}}
    assumed: Object = {"phase": "Pending"}
    if spec.get("nodeName"):
        statuses = [
            {"name": each["name"], "image": each.get("image", "none"), "imageID": "none", **running}
            for each in spec["containers"]
        ]
        assumed = {"phase": "Running", "containerStatuses": statuses}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": spec,
        "status": assumed | pod.get("status", {}),
    }
