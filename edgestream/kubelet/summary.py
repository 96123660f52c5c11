"""``/stats/summary``: what the node and its pods use, as one JSON document."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import FilesystemUsage as RuntimeFilesystem
from edgestream.kubelet import summary_document as parts
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.query import parse_query
from edgestream.kubelet.reply import JSON, reply, require_json_wanted, to_json, to_time
from edgestream.kubelet.router import Parameters
from edgestream.kubelet.summary_document import Document
from edgestream.stats.collector import Collector, ContainerFigures, PodFigures
from edgestream.stats.filesystems import DirectoryUsage, FilesystemUsage, files_in, filesystem_of
from edgestream.threads import Threads
from streamkit.errors import StreamError


@dataclass(frozen=True, slots=True)
class _Storage:
    """The node's filesystem, others by a path in them, and what directories of logs take up."""

    node: FilesystemUsage | None
    others: Mapping[str, FilesystemUsage | None]
    logs: Mapping[str, DirectoryUsage | None]
    limits: Document


class Summary:
    """The route. ``root_directory`` is the kubelet's, whose filesystem counts as the node's."""

    def __init__(
        self,
        client: CriClient,
        collector: Collector,
        threads: Threads,
        *,
        node_name: str,
        root_directory: Path,
    ) -> None:
        self._client = client
        self._collector = collector
        self._threads = threads
        self._node_name = node_name
        self._root_directory = root_directory

    async def report(self, exchange: Exchange, parameters: Parameters) -> None:
        """The document, or only processors and memory if the query wants no more.

        Pods without a running container are not in it. Volumes are not, and so neither is the sum
        of what a pod takes up. Raises a KubeletAnswer where the runtime or the disks don't answer.
        """
        require_json_wanted(exchange.request)
        values = parse_query(exchange.request.query)
        is_small = values.get("only_cpu_and_memory") == ["true"]
        try:
            document = await (self._processors_and_memory() if is_small else self._everything())
            body = await self._threads.run(to_json, document, indent=1)
        except StreamError as error:
            raise KubeletAnswer(500, f"Internal Error: {error}") from error
        await reply(exchange, body, JSON)

    async def _processors_and_memory(self) -> Document:
        node = await self._collector.node()
        pods = await self._collector.pods()
        return {
            "node": parts.node_document(self._node_name, node),
            "pods": [
                parts.pod_document(pod, [parts.container_document(each) for each in pod.containers])
                for pod in pods
            ],
        }

    async def _everything(self) -> Document:
        node = await self._collector.node()
        pods = await self._collector.pods(with_stats=True)
        images = await self._client.image_filesystems()
        storage = await self._threads.run(self._read_storage, pods, images)
        document = parts.node_document(self._node_name, node)
        document |= parts.network(node.usage, node.interfaces)
        if storage.node:
            document["fs"] = parts.filesystem(storage.node)
        if images:
            image_fs = _taken_up(images[0], storage)
            document["runtime"] = {"imageFs": image_fs, "containerFs": image_fs}
        document["rlimit"] = storage.limits
        document |= parts.swap(node.usage)
        return {"node": document, "pods": [_pod(pod, storage) for pod in pods]}

    def _read_storage(
        self, pods: Sequence[PodFigures], images: Sequence[RuntimeFilesystem]
    ) -> _Storage:
        containers = [each for pod in pods for each in pod.containers]
        layers = [each.stats.writable_layer for each in containers if each.stats]
        mountpoints = {each.fs_id.mountpoint for each in (*layers, *images)}
        directories = {each.running.details.log_directory for each in containers}
        proc = self._collector.proc
        limits = {"maxpid": proc.task_limit(), "curproc": proc.task_count()}
        known = {name: value for name, value in limits.items() if value is not None}
        return _Storage(
            node=filesystem_of(self._root_directory),
            others={path: filesystem_of(Path(path)) for path in mountpoints if path},
            logs={path: files_in(Path(path)) for path in directories if path},
            limits={"time": to_time(time.time_ns()), **known},
        )


def _pod(pod: PodFigures, storage: _Storage) -> Document:
    containers = [_container(each, storage) for each in pod.containers]
    return {
        **parts.pod_document(pod, containers),
        **parts.network(pod.usage, pod.interfaces),
        **parts.process_stats(pod),
        **parts.swap(pod.usage),
    }


def _container(container: ContainerFigures, storage: _Storage) -> Document:
    document = parts.container_document(container)
    if container.stats and container.stats.HasField("writable_layer"):
        document["rootfs"] = _taken_up(container.stats.writable_layer, storage)
    if storage.node:
        logs = storage.logs.get(container.running.details.log_directory)
        document["logs"] = parts.logs(storage.node, logs)
    return document | parts.swap(container.usage)


def _taken_up(layer: RuntimeFilesystem, storage: _Storage) -> Document:
    return parts.part_of(
        storage.others.get(layer.fs_id.mountpoint),
        used=layer.used_bytes.value if layer.HasField("used_bytes") else None,
        inodes_used=layer.inodes_used.value if layer.HasField("inodes_used") else None,
        at=layer.timestamp,
    )
