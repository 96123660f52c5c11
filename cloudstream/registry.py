"""Which node is connected, and through which session."""

from cloudstream.node_session import NodeSession
from streamkit.errors import NodeNotConnected, NodeUnknown, TunnelReplaced


class Registry:
    """Live sessions by node name. The newest authenticated one of a node wins."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeSession] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: NodeSession) -> None:
        """Enter a session; an older one of the same node is closed with TunnelReplaced."""
        older = self._nodes.get(node.name)
        self._nodes[node.name] = node
        if older is not None:
            older.close(TunnelReplaced(f'a newer tunnel of node "{node.name}" took over'))

    def remove(self, node: NodeSession) -> None:
        """Take a session out, if it is still the node's current one."""
        if self._nodes.get(node.name) is node:
            del self._nodes[node.name]

    def nodes(self) -> list[NodeSession]:
        """All live sessions."""
        return list(self._nodes.values())

    def find(self, name: str) -> NodeSession | None:
        """The node's session, or None."""
        return self._nodes.get(name)

    def by_name(self, name: str) -> NodeSession:
        """The node's session. Raises NodeNotConnected."""
        try:
            return self._nodes[name]
        except KeyError:
            raise NodeNotConnected(f'edge node "{name}" is not connected') from None

    def by_address(self, address: str) -> NodeSession | None:
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
