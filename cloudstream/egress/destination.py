"""Where a CONNECT may lead: to an edge node, elsewhere in the cluster, or nowhere."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from cloudstream.addresses import unmapped_address
from cloudstream.kube.node_status import PortSource
from cloudstream.registry import Registry
from streamkit.errors import EgressFailed, NodeUnknown, NotAllowed

Network = IPv4Network | IPv6Network

_USUAL_PORT = 10250
"""A kubelet's own, which a Node has until ours is published."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The stream server takes the connection, as if this host had been dialled."""

    host: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The connection is relayed to this address."""

    address: str
    port: int


class Destinations:
    """Decides by the nodes that are connected, by kubelet ports, and by the networks allowed."""

    def __init__(
        self,
        registry: Registry,
        port: PortSource,
        *,
        configured_port: int,
        networks: Sequence[Network],
    ) -> None:
        self._registry = registry
        self._port = port
        self._configured_port = configured_port
        self._networks = networks

    async def find(self, host: str, port: int, *, within: float) -> Edge | Elsewhere:
        """Where a connection to host and port leads.

        A kubelet port that cloud services publish always means an edge node, connected or not.
        Raises NotAllowed, and EgressFailed for a name that can't be resolved in so many seconds.
        """
        name = _spelt(host)
        if port in (self._port.port, self._configured_port) or self._port.is_foreign(port):
            return Edge(name)
        if self._is_connected(name):
            if port == _USUAL_PORT:
                return Edge(name)
            raise NotAllowed(
                f"of the edge node {name} only its kubelet port can be reached, not {port}",
                hint="what runs on an edge node is reached with kubectl port-forward",
            )
        return Elsewhere(await self._allowed_address(name, port, within), port)

    def _is_connected(self, name: str) -> bool:
        try:
            return bool(self._registry.find(name) or self._registry.by_address(name))
        except NodeUnknown:  # several have this address
            return True

    async def _allowed_address(self, name: str, port: int, within: float) -> str:
        try:
            addresses = [unmapped_address(name)]
        except ValueError:
            # Resolved here and dialled as it was resolved, so that what is checked is what is used.
            addresses = await _resolved(name, port, within)
        for address in addresses:
            if any(_holds(network, address) for network in self._networks):
                return str(address)
        raise NotAllowed(
            f"{name} is no connected edge node, and egress.relayTo does not allow to relay there"
        )


def _spelt(host: str) -> str:
    try:
        return str(unmapped_address(host))
    except ValueError:
        return host.lower().removesuffix(".")


def _holds(network: Network, address: IPv4Address | IPv6Address) -> bool:
    """Whether the network allows the address. This host's own and its link only if it is meant."""
    if address not in network:
        return False
    if address.is_unspecified or address.is_multicast:
        return False
    if address.is_loopback:
        return network.is_loopback
    return network.is_link_local or not address.is_link_local


async def _resolved(name: str, port: int, within: float) -> list[IPv4Address | IPv6Address]:
    try:
        async with asyncio.timeout(within):
            found = await asyncio.get_running_loop().getaddrinfo(
                name, port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError) as error:
        # A timeout is one of them, too.
        raise EgressFailed(f"{name} can't be resolved") from error
    return [unmapped_address(str(address[0]).partition("%")[0]) for *_, address in found]
