"""Two cloud services of one cluster, behind one address for API servers and one for edges."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudstream.config import CloudDeadlines, CloudSettings, KubernetesSettings, ReplicaSettings
from cloudstream.kube.node_status import kubelet_port
from cloudstream.kube.port_record import ANNOTATION
from tests.support.api_client import ApiClient, api_client
from tests.support.balancer import Balancer, balancer
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import ScriptedKubelet, Serve, connected_edge
from tests.support.kube_server import KubeServer
from tests.support.wait import until

HOSTS = ("127.0.0.2", "127.0.0.3")


@dataclass
class ReplicaPair:
    """Two running replicas; ``stop`` ends one of them in good order."""

    clouds: tuple[Cloud, Cloud]
    streams: Balancer
    tunnels: Balancer
    kube: KubeServer
    stream_port: int

    async def stop(self, index: int) -> None:
        """SIGTERM, and wait for the end."""
        task = self.clouds[index].task
        task.cancel()
        async with asyncio.timeout(40):
            await asyncio.wait((task,))

    def nodes_of(self, index: int) -> set[str]:
        """Who is connected to that replica."""
        return {node.name for node in self.clouds[index].service.registry.nodes()}

    def client(
        self, index: int | None = None, stem: str = "apiserver-client"
    ) -> contextlib.AbstractAsyncContextManager[ApiClient]:
        """A connection to one of them, or to whichever the balancer takes."""
        balanced = ("127.0.0.1", self.streams.port)
        address = balanced if index is None else (HOSTS[index], self.stream_port)
        return api_client(self.clouds[index or 0], stem, address=address)

    def edge(
        self, node: str, serve: Serve, *, index: int | None = None, node_ip: str = "192.0.2.7"
    ) -> contextlib.AbstractAsyncContextManager[ScriptedKubelet]:
        """An edge that dials through the balancer, or (for good) one of them."""
        tunnels = self.tunnels if index is None else None
        address = ("127.0.0.1", tunnels.port) if tunnels else self._tunnel_address(index or 0)
        return connected_edge(
            self.clouds[0],
            serve,
            node=node,
            node_ip=node_ip,
            address=address,
            others=self.clouds[1:],
        )

    def _tunnel_address(self, index: int) -> tuple[str, int]:
        return (HOSTS[index], self.clouds[index].tunnel_port)

    def published(self, node: str) -> int:
        """The kubelet port in the Node."""
        return kubelet_port(self.kube.world.nodes.get(("", node)))

    def names_at(self, address: str) -> list[set[str]]:
        """The nodes that have that address, as each replica has seen it in the Nodes."""
        publishers = (cloud.service._publisher for cloud in self.clouds)
        return [set(each.names_at(address)) if each else set() for each in publishers]

    def record(self) -> dict[str, Any]:
        """The ``tunnelport`` record."""
        config_map = self.kube.world.config_maps.get(("kubeedge", "tunnelport"))
        found: dict[str, Any] = json.loads(config_map["metadata"]["annotations"][ANNOTATION])
        return found


@contextlib.asynccontextmanager
async def replica_pair(
    directory: Path,
    kube: KubeServer,
    *,
    nodes: Sequence[str],
    deadlines: CloudDeadlines | None = None,
    forward: bool = True,
) -> AsyncIterator[ReplicaPair]:
    """Both replicas, with their ports agreed on."""
    port = _free_port()
    async with contextlib.AsyncExitStack() as stack:
        clouds = [
            await stack.enter_async_context(
                running_cloud(
                    directory,
                    CloudSettings(
                        bind_address=host,
                        kubernetes=KubernetesSettings(advertise_address=host),
                        replicas=ReplicaSettings(forward=forward),
                        deadlines=deadlines or CloudDeadlines(),
                    ),
                    kube_config=kube.kube_config,
                    stream_port=port,
                    nodes=nodes,
                )
            )
            for host in HOSTS
        ]
        first, second = clouds

        def is_ready(index: int) -> bool:
            return not clouds[index].service._streams.is_draining

        streams = await stack.enter_async_context(
            balancer(*((host, port) for host in HOSTS), is_ready=is_ready)
        )
        tunnels = await stack.enter_async_context(
            balancer(
                (HOSTS[0], first.tunnel_port), (HOSTS[1], second.tunnel_port), is_ready=is_ready
            )
        )
        pair = ReplicaPair((first, second), streams, tunnels, kube, port)
        await until(lambda: all(_knows_another(each) for each in clouds))
        yield pair


def _knows_another(cloud: Cloud) -> bool:
    replicas = cloud.service._replicas
    agreed = cloud.service._agreed
    return bool(agreed and agreed.others) and (replicas is None or bool(replicas.addresses()))


def _free_port() -> int:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(socket.socket())
        first.bind((HOSTS[0], 0))
        port = int(first.getsockname()[1])
        stack.enter_context(socket.socket()).bind((HOSTS[1], port))
        return port
