"""Publishes the port that API servers dial into the Node objects of connected nodes.

The API server connects to a node's address at ``status.daemonEndpoints.kubeletEndpoint.Port``; that
port leads it to the cloud service which holds the node's tunnel. So only that one writes it: the
newest live tunnel counts. What others write over it (an edge's kubelet, CloudCore) is put back,
unless it is the port of another cloud service: the node may have gone there, and our tunnel be dead
without a word. Then it is put back once the tunnel has outlived its heartbeats.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from cloudstream.kube.api import STRATEGIC_PATCH, JsonObject, KubeApi, api_path
from cloudstream.kube.duty import DutyStatus
from cloudstream.kube.follow import Pauses, follow, metadata
from cloudstream.kube.port_record import same_spelling
from cloudstream.node_session import NodeSession
from cloudstream.registry import Registry
from cloudstream.replicas.replicas import Published
from streamkit.errors import LookupFailed
from streamkit.service.logs import RepeatLimiter
from streamkit.service.tasks import spawn

log = logging.getLogger(__name__)

_SWEEP = 0.5
"""Seconds between two looks at who is connected."""
_SETTLE = 2.0
"""Seconds between a write to a Node and the next one that undoes what somebody else wrote."""
_RESYNC = 60.0
"""Seconds for which what was seen of a Node counts without a watch."""
_FIRST_LOOK = 2.0
"""Seconds that a new tunnel's write waits for a first look at the Nodes: it may not be needed."""
_JUST_ATTACHED = 5.0
"""Seconds for which a new tunnel needs no proof that it is alive. What others wrote before it may
be seen only after it."""
_CONCURRENT = 8
"""Writes at a time, when thousands of nodes connect at once."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
"""Seconds between failed writes to one Node."""


class PortSource(Protocol):
    """Where the port to publish comes from."""

    @property
    def port(self) -> int | None:
        """The port; None while it is not known."""

    def is_foreign(self, port: int) -> bool:
        """Whether another cloud service has this port."""


@dataclass(frozen=True, slots=True)
class FixedPort:
    """A port that is agreed on with nobody."""

    port: int

    def is_foreign(self, port: int) -> bool:
        """Nobody else is known."""
        return False


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a Node said when it was last seen."""

    port: int
    addresses: frozenset[str]
    version: str
    at: float


@dataclass(slots=True)
class _Claim:
    """One tunnel's right to a Node's port."""

    node: NodeSession
    attached_at: float
    since: float
    is_settled: bool = False
    """Whether the Node has the port now."""
    was_settled: bool = False
    """Whether it has had it since this tunnel carries the session."""
    not_before: float = float("-inf")
    foreign_since: float | None = None
    error: str = ""
    is_writing: bool = False
    pauses: Pauses = field(default_factory=lambda: Pauses(_FIRST_PAUSE, _LONGEST_PAUSE))

    def is_of(self, node: NodeSession) -> bool:
        return self.node is node and self.attached_at == node.attached_at

    def settle(self) -> None:
        self.is_settled = self.was_settled = True
        self.foreign_since = None
        self.error = ""


class KubeletPortPublisher:
    """Keeps the Node objects of connected nodes true. ``yield_after`` is in seconds."""

    def __init__(
        self, api: KubeApi, registry: Registry, port: PortSource, *, yield_after: float
    ) -> None:
        self._api = api
        self._registry = registry
        self._port = port
        self._yield_after = yield_after
        self._claims: dict[str, _Claim] = {}
        self._seen: dict[str, _Seen] = {}
        self._is_watching = False
        self._writing = 0
        self._woken = asyncio.Event()
        self._limiter = RepeatLimiter()

    def status(self) -> DutyStatus:
        """How many connected nodes still lack the port, and why."""
        pending = [claim for claim in self._claims.values() if not claim.is_settled]
        errors = sorted({claim.error for claim in pending if claim.error})
        if self._port.port is None:
            sentence = "the kubelet port is not known yet"
        elif pending:
            more = f" ({'; '.join(errors[:3])})" if errors else ""
            sentence = f"{len(pending)} nodes still lack the kubelet port {self._port.port}{more}"
        else:
            sentence = f"{len(self._claims)} nodes have the kubelet port {self._port.port}"
        return DutyStatus(len(pending), sentence)

    def published(self, name: str) -> Published | None:
        """The port that the Node had when it was last seen."""
        seen = self._seen.get(name)
        return Published(seen.port, seen.at) if seen else None

    def names_at(self, address: str) -> list[str]:
        """The nodes with that internal address that lead to a cloud service, ours or another."""
        return [
            name
            for name, seen in self._seen.items()
            if address in seen.addresses
            and (seen.port == self._port.port or self._port.is_foreign(seen.port))
        ]

    def is_leading_here(self, names: Collection[str]) -> bool:
        """Whether any of those Nodes still publishes our port, as far as is seen."""
        seen = (self._seen.get(name) for name in names)
        return self._is_watching and any(each and each.port == self._port.port for each in seen)

    async def run(self) -> None:
        """Publish until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                spawn(
                    follow(self._api, api_path("api", "v1", "nodes"), self),
                    name="node watch",
                    owner=group,
                )
                while True:
                    self._sweep(group)
                    self._woken.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_SWEEP):
                            await self._woken.wait()
        finally:
            self._claims.clear()
            self._writing = 0
            self.lost()

    # -- what is seen of the Nodes ------------------------------------------------------------

    def listed(self, objects: list[JsonObject]) -> None:
        """All Nodes."""
        self._seen = {}
        for item in objects:
            self._note(item)

    def watching(self) -> None:
        """Each change is told."""
        if not self._is_watching:
            # The API is back: what failed while it was away is not kept waiting by its pauses.
            for claim in self._claims.values():
                if claim.error:
                    claim.not_before = float("-inf")
                    claim.pauses.reset()
            self._woken.set()
        self._is_watching = True

    def changed(self, kind: str, item: JsonObject) -> None:
        """A Node changed."""
        if kind == "DELETED":
            self._seen.pop(str(metadata(item).get("name")), None)
        else:
            self._note(item)

    def lost(self) -> None:
        """Changes are not told for now."""
        self._is_watching = False

    def _note(self, item: JsonObject) -> None:
        name, version = (
            str(metadata(item).get(field, "")) for field in ("name", "resourceVersion")
        )
        known = self._seen.get(name)
        if known and _is_older(version, known.version):
            return
        now = time.monotonic()
        self._seen[name] = _Seen(kubelet_port(item), internal_addresses(item), version, now)
        if name in self._claims:
            self._woken.set()

    # -- what is to be done -------------------------------------------------------------------

    def _sweep(self, group: asyncio.TaskGroup) -> None:
        # A node that is asked to go elsewhere is another's to write.
        nodes = (node for node in self._registry.nodes() if not node.is_draining)
        live = {node.name: node for node in nodes if not node.is_suspended}
        for name in self._claims.keys() - live.keys():
            del self._claims[name]
        port = self._port.port
        for name, node in live.items():
            claim = self._claims.get(name)
            if claim is None or not claim.is_of(node):
                claim = self._claims[name] = _Claim(node, node.attached_at, time.monotonic())
            if port is None or claim.is_writing or not self._is_due(name, claim, port):
                continue
            if self._writing >= _CONCURRENT:
                break
            claim.is_writing = True
            self._writing += 1
            spawn(self._write(name, claim, port), name=f"kubelet port of {name}", owner=group)

    def _is_due(self, name: str, claim: _Claim, port: int) -> bool:
        now = time.monotonic()
        seen = self._seen.get(name)
        is_recent = seen is not None and (self._is_watching or now - seen.at < _RESYNC)
        if seen and is_recent and seen.port == port:
            claim.settle()
            return False
        claim.is_settled = False
        if not seen and not self._is_watching and now - claim.since < _FIRST_LOOK:
            return False
        is_old = claim.was_settled and now - claim.since > _JUST_ATTACHED
        if is_old and seen and self._port.is_foreign(seen.port):
            if claim.foreign_since is None:
                claim.foreign_since = now
                log.warning(
                    'node "%s": another cloud service published its port %d', name, seen.port
                )
            if now - claim.foreign_since < self._yield_after:
                return False
        return now >= claim.not_before

    async def _write(self, name: str, claim: _Claim, port: int) -> None:
        seen = self._seen.get(name)
        try:
            await self._patch(name, port)
        except (LookupFailed, ValueError) as error:
            claim.error = str(error)
            claim.not_before = time.monotonic() + claim.pauses.next()
            if (repeats := self._limiter.admit(claim.error)) is not None:
                log.warning('node "%s" lacks the kubelet port: %s%s', name, error, repeats)
            return
        finally:
            claim.is_writing = False
            self._writing -= 1
            self._woken.set()
        claim.pauses.reset()
        claim.not_before = time.monotonic() + _SETTLE
        if claim.was_settled and seen:
            log.info('node "%s": put the kubelet port %d back for %d', name, port, seen.port)
        else:
            log.info('node "%s": published the kubelet port %d', name, port)
        claim.settle()

    async def _patch(self, name: str, port: int) -> None:
        path = api_path("api", "v1", "nodes", name, "status")
        body = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}
        self._note(await self._api.request("PATCH", path, body=body, content_type=STRATEGIC_PATCH))


def kubelet_port(node: JsonObject) -> int:
    """The port that a Node publishes; 0 where it publishes none."""
    found: object = node
    for key in ("status", "daemonEndpoints", "kubeletEndpoint", "Port"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, int) else 0


def internal_addresses(node: JsonObject) -> frozenset[str]:
    """The internal addresses of a Node, in their usual spelling."""
    status = node.get("status")
    found = status.get("addresses") if isinstance(status, dict) else None
    return frozenset(
        same_spelling(str(each.get("address")))
        for each in found or ()
        if isinstance(each, dict) and each.get("type") == "InternalIP"
    )


def _is_older(version: str, than: str) -> bool:
    """Versions are opaque, and numbers in truth; where they are none, each is the newest."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)
