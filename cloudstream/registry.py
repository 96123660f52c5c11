"""Which node is connected, and through which session."""

from dataclasses import dataclass
from typing import Protocol

from streamkit.errors import NodeNotConnected, NodeUnknown, StreamError, TunnelReplaced
from streamkit.session.session import CloudSession


class TunnelHandle(Protocol):
    """What the registry may do to a tunnel: end it, and say why."""

    def close(self, error: StreamError) -> None:
        """End the tunnel and reset its channels with the error. Idempotent."""


@dataclass(frozen=True, eq=False, slots=True)
class ConnectedNode:
    """One node's live entry. Identity is the name; the address is an attribute of the tunnel."""

    name: str
    internal_ip: str
    session: CloudSession
    tunnel: TunnelHandle


class Registry:
    """Live nodes by name. The newest authenticated tunnel of a node wins."""

    def __init__(self) -> None:
        self._nodes: dict[str, ConnectedNode] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: ConnectedNode) -> None:
        """Enter a node; an older tunnel of the same name is closed with TunnelReplaced."""
        older = self._nodes.get(node.name)
        self._nodes[node.name] = node
        if older is not None:
            older.tunnel.close(TunnelReplaced(f'a newer tunnel of node "{node.name}" took over'))

    def remove(self, node: ConnectedNode) -> None:
        """Take an entry out, if it is still the node's current one."""
        if self._nodes.get(node.name) is node:
            del self._nodes[node.name]

    def nodes(self) -> list[ConnectedNode]:
        """All live entries."""
        return list(self._nodes.values())

    def by_name(self, name: str) -> ConnectedNode:
        """The node's entry. Raises NodeNotConnected."""
        try:
            return self._nodes[name]
        except KeyError:
            raise NodeNotConnected(f'edge node "{name}" is not connected') from None

    def by_address(self, address: str) -> ConnectedNode | None:
        """The one node that announced this address, or None.

        Raises NodeUnknown where several nodes announced it: an address that is not unique can't
        say which node is meant.
        """
        found = [node for node in self._nodes.values() if node.internal_ip == address]
        if len(found) > 1:
            names = ", ".join(sorted(node.name for node in found))
            raise NodeUnknown(
                f"the address {address} belongs to several nodes ({names})",
                hint="name the node: through its pods, or through the API server's node proxy",
            )
        return found[0] if found else None
