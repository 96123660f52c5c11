"""Connections to the ports of a pod, made in the pod's own network."""

import asyncio
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import NODE
from edgestream.cri.verbose import network_namespace, verbose_info
from edgestream.kubelet.go_errors import endpoint, reason
from edgestream.kubelet.network_namespace import NamespaceSockets
from edgestream.kubelet.pod_connection import ForwardingFailed, PodConnection
from edgestream.kubelet.tcp_peers import KERNEL
from streamkit.errors import BackendError, StreamError

CONNECT_DEADLINE = 30.0
"""Seconds for a server in the pod to take a connection, by either version of IP."""

_LOOPBACKS = ((socket.AF_INET, "tcp4", "127.0.0.1"), (socket.AF_INET6, "tcp6", "::1"))


class SandboxPorts:
    """The ports of one sandbox."""

    def __init__(self, networks: "PodNetworks", sandbox_id: str) -> None:
        self._networks = networks
        self._sandbox_id = sandbox_id

    async def connect(self, port: int) -> PodConnection:
        """A new connection to a port. Raises ForwardingFailed."""
        return await self._networks.connect(self._sandbox_id, port)

    def failure(self, port: int, error: ForwardingFailed) -> str:
        """What a runtime tells of a connection that failed."""
        return f"error forwarding port {port} to pod {self._sandbox_id}, uid : {error}"


class CannotEnter(BackendError):
    """The pod's network is out of reach for this agent."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A network: ``namespace`` is None for the host's, where this agent is too."""

    namespace: Path | None

    def __str__(self) -> str:
        return str(self.namespace or "host")


class PodNetworks:
    """Finds pods' networks. The runtime is asked each time, for a sandbox may be gone meanwhile."""

    def __init__(self, client: CriClient) -> None:
        self._client = client
        self._sockets = NamespaceSockets()

    async def check(self, sandbox_id: str) -> None:
        """Raise CannotEnter where that sandbox's network can't be reached from here.

        Raises also what ``CriClient`` raises, and ForwardingFailed where the network is no more.
        """
        place = await self._find(sandbox_id)
        try:
            made = await self._sockets.make(place.namespace, [KERNEL])
        except FileNotFoundError as error:
            raise _closed(sandbox_id) from error
        except OSError as error:
            raise CannotEnter(f"entering {place} failed: {reason(error)}") from error
        for each in made:
            each.close()

    async def connect(self, sandbox_id: str, port: int) -> PodConnection:
        """A connection to that port on the sandbox's loopback, by IPv4 or else by IPv6.

        Raises ForwardingFailed.
        """
        try:
            place = await self._find(sandbox_id)
        except ForwardingFailed:
            raise
        except StreamError as error:
            raise ForwardingFailed(str(error)) from error
        failures = []
        for family, name, address in _LOOPBACKS:
            try:
                return await self._dial(place, family, address, port)
            except FileNotFoundError as error:
                raise _closed(sandbox_id) from error
            except TimeoutError:
                failures.append(f"dial {name} {endpoint(address, port)}: i/o timeout")
            except OSError as error:
                why = f"connect: {reason(error)}"
                failures.append(f"dial {name} {endpoint(address, port)}: {why}")
        raise ForwardingFailed(
            f'failed to execute portforward in network namespace "{place}": failed to connect to'
            f' localhost:{port} inside namespace "{sandbox_id}",'
            f" IPv4: {failures[0]} IPv6 {failures[1]} "
        )

    def ports_of(self, sandbox_id: str) -> SandboxPorts:
        """The ports of one sandbox."""
        return SandboxPorts(self, sandbox_id)

    def close(self) -> None:
        """Let go of what making connections needs; those that exist live on. Idempotent."""
        self._sockets.close()

    async def _find(self, sandbox_id: str) -> _Place:
        answer = await self._client.sandbox_status(sandbox_id, verbose=True)
        if answer.status.linux.namespaces.options.network == NODE:
            return _Place(None)
        info = verbose_info(answer.info)
        if info.get("netNamespaceClosed") is True:
            raise _closed(sandbox_id)
        if path := network_namespace(info):
            return _Place(Path(path))
        raise CannotEnter("the container runtime does not tell where a sandbox's network is")

    async def _dial(self, place: _Place, family: int, address: str, port: int) -> PodConnection:
        kinds = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP), KERNEL]
        with ExitStack() as stack:
            made = await self._sockets.make(place.namespace, kinds)
            sock, kernel = map(stack.enter_context, made)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(CONNECT_DEADLINE):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
            connection = PodConnection(sock, kernel, str(place))
            stack.pop_all()
        return connection


def _closed(sandbox_id: str) -> ForwardingFailed:
    return ForwardingFailed(f'network namespace for sandbox "{sandbox_id}" is closed')
