"""Which node is connected, and through which session."""

import asyncio
from collections.abc import Iterable

from cloudstream.node_session import NodeSession
from streamkit.errors import NodeNotConnected, NodeUnknown, TunnelReplaced


class Registry:
    """Live sessions by node name. The newest authenticated one of a node wins."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeSession] = {}
        self._released: set[NodeSession] = set()
        self._awaited: dict[str, set[asyncio.Future[NodeSession]]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: NodeSession) -> None:
        """Enter a session; an older one of the same node is closed with TunnelReplaced."""
        older = self._nodes.get(node.name)
        self._nodes[node.name] = node
        if older is not None:
            older.close(TunnelReplaced(f'a newer tunnel of node "{node.name}" took over'))
        for waiter in self._awaited.pop(node.name, ()):
            if not waiter.done():
                waiter.set_result(node)

    def remove(self, node: NodeSession) -> None:
        """Take a session out, if it is still the node's current one."""
        self._released.discard(node)
        if self._nodes.get(node.name) is node:
            del self._nodes[node.name]

    def release(self, node: NodeSession) -> None:
        """The node has gone elsewhere: what runs in the session goes on, and nothing new begins."""
        if self._nodes.get(node.name) is node:
            del self._nodes[node.name]
            self._released.add(node)

    def nodes(self) -> list[NodeSession]:
        """The sessions that take requests."""
        return list(self._nodes.values())

    def released(self) -> list[NodeSession]:
        """The sessions whose nodes have gone elsewhere, and which still live."""
        return list(self._released)

    def find(self, name: str) -> NodeSession | None:
        """The node's session, or None."""
        return self._nodes.get(name)

    def by_name(self, name: str) -> NodeSession:
        """The node's session. Raises NodeNotConnected."""
        try:
            return self._nodes[name]
        except KeyError:
            raise NodeNotConnected(f'edge node "{name}" is not connected') from None

    async def awaited(self, name: str, *, within: float) -> NodeSession:
        """The node's session, once it is there: after a restart nodes need a moment to return.

        Raises NodeNotConnected when the seconds are over.
        """
        if node := self._nodes.get(name):
            return node
        waiter: asyncio.Future[NodeSession] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(name, set()).add(waiter)
        try:
            async with asyncio.timeout(within):
                return await waiter
        except TimeoutError:
            return self.by_name(name)
        finally:
            if waiters := self._awaited.get(name):
                waiters.discard(waiter)
                if not waiters:
                    del self._awaited[name]

    def by_address(self, address: str) -> NodeSession | None:
        """The one node that announced this address, or None.

        Raises NodeUnknown where several nodes announced it: an address that is not unique can't
        say which node is meant.
        """
        found = [node for node in self._nodes.values() if node.internal_ip == address]
        if len(found) > 1:
            raise several_at(address, (node.name for node in found))
        return found[0] if found else None


def several_at(address: str, names: Iterable[str]) -> NodeUnknown:
    """What to raise where an address is not that of one node."""
    return NodeUnknown(
        f"the address {address} belongs to several nodes ({', '.join(sorted(names))})",
        hint="name the node: through its pods, or through the API server's node proxy",
    )
