"""Which other replicas there are, and which of them may hold a node.

They are the other entries of the ``tunnelport`` record, or a list in the configuration; all have
the same stream port. A Node publishes the port of the replica that holds its tunnel. Where that is
outdated, each of the others is asked: one that does not hold the node says so at once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from cloudstream.replicas.exchange import Address, ReplicaDialler, ReplicaSession
from cloudstream.replicas.reachability import Reachability
from streamkit.errors import StreamError


@dataclass(frozen=True, slots=True)
class Published:
    """The kubelet port that a Node had when it was last seen, and when that was (monotonic)."""

    port: int
    at: float


class Replicas:
    """The other replicas. ``record`` has their address by kubelet port.

    ``published`` is what a node's Node said last; ``names_at`` are the nodes with an address, as
    far as their Nodes lead to a cloud service.
    """

    def __init__(
        self,
        dialler: ReplicaDialler,
        *,
        static: Sequence[Address],
        stream_port: int,
        record: Callable[[], Mapping[int, str]],
        published: Callable[[str], Published | None],
        names_at: Callable[[str], Collection[str]],
    ) -> None:
        self._dialler = dialler
        self._static = static
        self._stream_port = stream_port
        self._record = record
        self._published = published
        self.names_at = names_at
        self._learned: dict[str, Address] = {}
        self._reachability = Reachability(dialler, self.addresses)

    def addresses(self) -> list[Address]:
        """All the others."""
        if self._static:
            return list(self._static)
        return [(host, self._stream_port) for host in self._record().values()]

    def is_replica(self, peercert: Mapping[str, object] | None) -> bool:
        """Whether a verified certificate has the subject that replicas' certificates have."""
        return self._dialler.is_replica(peercert)

    def published_elsewhere(self, node_name: str, *, since: float) -> bool:
        """Whether the Node has shown another replica's port since that monotonic time."""
        seen = self._published(node_name)
        return seen is not None and seen.at > since and seen.port in self._record()

    def is_known(self, node_name: str) -> bool:
        """Whether there is a reason to believe that another replica holds the node."""
        return bool(self._named(node_name))

    def candidates(self, node_name: str) -> list[ReplicaSession]:
        """Whom to ask for the node, the most likely first; not those that can't be reached."""
        likely = dict.fromkeys((*self._named(node_name), *self.addresses()))
        return [
            self._session(address, node_name)
            for address in likely
            if not self._reachability.is_away(address)
        ]

    async def is_any_serving(self) -> bool:
        """Whether there is another replica that takes edges; known within some seconds."""
        return await self._reachability.is_any_serving()

    async def close(self) -> None:
        """End what is being dialled. Idempotent."""
        await self._reachability.close()
        await self._dialler.close()

    def _named(self, node_name: str) -> list[Address]:
        found: list[Address] = []
        seen = self._published(node_name)
        if seen and not self._static and (host := self._record().get(seen.port)):
            found.append((host, self._stream_port))
        learned = self._learned.get(node_name)
        if learned in self.addresses():
            found.append(learned)
        return found

    def _session(self, address: Address, node_name: str) -> ReplicaSession:
        def told(error: StreamError | None) -> None:
            self._reachability.note(address, error)
            if error is None:
                self._learned[node_name] = address
            elif self._learned.get(node_name) == address:
                del self._learned[node_name]

        return ReplicaSession(self._dialler, address, node_name, told)
