"""Agrees with other cloud services, KubeEdge's included, on who has which kubelet port.

Each cloud service has a port of its own in the ConfigMap ``tunnelport``. Nodes publish it, and NAT
on the API servers' hosts leads from it to the cloud service's address.
"""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable, Collection, Mapping

from cloudstream.kube.api import ApiRefused, JsonObject, KubeApi, api_path
from cloudstream.kube.duty import DutyStatus
from cloudstream.kube.follow import Pauses, follow, metadata
from cloudstream.kube.left_overs import LeftOvers
from cloudstream.kube.port_record import (
    ANNOTATION,
    CONFIG_MAP,
    NAMESPACE,
    BadRecord,
    PortRecord,
    edge_entries,
    format_record,
    is_address,
    negotiate,
    parse_record,
    same_spelling,
)
from streamkit.errors import LookupFailed
from streamkit.service.logs import RepeatLimiter
from streamkit.service.tasks import spawn

log = logging.getLogger(__name__)

_ATTEMPTS = 10
"""At a write that conflicts with others, before a longer pause."""
_CONFLICT_PAUSE = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0
"""Seconds between failures."""
_RECHECK = 60.0
"""Seconds after which the record is read again though nothing was told of a change."""

_MAPS = api_path("api", "v1", "namespaces", NAMESPACE, "configmaps")
_MAP = f"{_MAPS}/{CONFIG_MAP}"
_WHERE = f"ConfigMap {NAMESPACE}/{CONFIG_MAP}"


class TunnelPort:
    """This cloud service's entry in the record, kept for as long as ``run`` runs.

    ``address`` finds this host's address; it is asked each time, for it may change.
    ``edge_addresses`` are those of connected nodes.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        address: Callable[[], str],
        edge_addresses: Callable[[], Collection[str]],
        left_overs: LeftOvers,
    ) -> None:
        self._api = api
        self._left_overs = left_overs
        self._address = address
        self._edge_addresses = edge_addresses
        self._held: tuple[str, int] | None = None
        self._others: frozenset[str] = frozenset()
        self._hosts: dict[int, str] = {}
        self._error = "it has not been agreed on yet"
        self._problems: tuple[str, ...] = ()
        self._woken = asyncio.Event()
        self._limiter = RepeatLimiter(3600.0)

    @property
    def port(self) -> int | None:
        """The port that was agreed on; None before. It is kept while the API is away."""
        return self._held[1] if self._held else None

    def is_foreign(self, port: int) -> bool:
        """Whether another cloud service has this port."""
        return port in self._hosts

    @property
    def others(self) -> Mapping[int, str]:
        """The addresses of other cloud services, by their port."""
        return self._hosts

    def status(self) -> DutyStatus:
        """The port and the address it is recorded for, or why there is none."""
        if self._error or not self._held:
            return DutyStatus(1, f"the kubelet port is not in the {_WHERE}: {self._error}")
        address, port = self._held
        text = f"the kubelet port is {port}, for {address} in the {_WHERE}"
        return DutyStatus(0, "; ".join((text, *self._problems)))

    async def run(self) -> None:
        """Keep the entry until cancelled. It stays when the service ends: it will come back."""
        pauses = Pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
        selector = {"fieldSelector": f"metadata.name={CONFIG_MAP}"}
        async with asyncio.TaskGroup() as group:
            watch = follow(self._api, _MAPS, self, selectors=selector)
            spawn(watch, name="tunnelport watch", owner=group)
            while True:
                self._woken.clear()
                try:
                    await self._assert()
                except LookupFailed as error:
                    self._error = str(error)
                    self._warn(self._error)
                    await asyncio.sleep(pauses.next())
                    continue
                self._error = ""
                pauses.reset()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RECHECK):
                        await self._woken.wait()

    # -- the watch of the ConfigMap -------------------------------------------------------------

    def listed(self, objects: list[JsonObject]) -> None:
        """The ConfigMap, or nothing, may be another one now."""
        self._woken.set()

    def watching(self) -> None:
        """Changes are told."""

    def changed(self, kind: str, item: JsonObject) -> None:
        """Somebody wrote to the ConfigMap; that may have been ourselves."""
        self._woken.set()

    def lost(self) -> None:
        """It is read now and then anyway."""

    # -- the entry ----------------------------------------------------------------------------

    async def _assert(self) -> None:
        """See to it that the record has our entry. Raises LookupFailed."""
        address = same_spelling(self._address())
        if not address:
            raise LookupFailed(
                "this host has no default route that would tell its address",
                hint="set kubernetes.advertiseAddress",
            )
        gone = await self._gone(address)
        for _ in range(_ATTEMPTS):
            try:
                await self._negotiate(address, gone)
                return
            except ApiRefused as error:
                if error.status != 409:
                    raise
                await asyncio.sleep(random.uniform(0, _CONFLICT_PAUSE))
        raise LookupFailed(f"others keep writing to the {_WHERE}")

    async def _gone(self, address: str) -> set[str]:
        """Entries of cloud services that are no more. Not to know of any is no failure."""
        try:
            return await self._left_overs.among(self._others, own=address)
        except LookupFailed as error:
            log.debug("entries of the %s that are left over can't be found: %s", _WHERE, error)
            return set()

    async def _negotiate(self, address: str, gone: set[str]) -> None:
        config_map = await self._read()
        annotations = metadata(config_map).get("annotations")
        annotations = annotations if isinstance(annotations, dict) else {}
        try:
            found = parse_record(annotations.get(ANNOTATION))
        except BadRecord as error:
            if config_map:
                self._warn(f"{_WHERE}: {error}; it gets a new one")
            found = PortRecord()
        record, held = found.forgetting(gone), None
        if self._held:
            held = self._held[1]
            if self._held[0] != address:
                record = record.without(self._held[0])
        port, record = negotiate(record, address, held=held)
        if not config_map:
            await self._create(format_record(record))
        elif record != found:
            await self._write(config_map, {**annotations, ANNOTATION: format_record(record)})
        for each in gone & found.by_address.keys():
            log.info("took %s out of the %s: that cloud service is gone", each, _WHERE)
        self._take(address, port, found, record)

    def _take(self, address: str, port: int, found: PortRecord, record: PortRecord) -> None:
        if self._held != (address, port):
            log.info("the kubelet port is %d, for %s in the %s", port, address, _WHERE)
        self._held = (address, port)
        edges = edge_entries(record.without(address), self._edge_addresses())
        others = record.without(address).by_address
        self._others = frozenset(others) - {*edges}
        self._hosts = {
            others[key]: same_spelling(key)
            for key in sorted(self._others)
            if others[key] != port and is_address(key)
        }
        problems = found.problems
        if edges:
            problems += (
                f"its keys {', '.join(edges)} are edge nodes, and have to be cloud services",
            )
        self._problems = problems
        for problem in problems:
            self._warn(f"{_WHERE}: {problem}")

    async def _read(self) -> JsonObject:
        """The ConfigMap; empty where there is none."""
        try:
            return await self._api.request("GET", _MAP)
        except ApiRefused as error:
            if error.status != 404:
                raise
            return {}

    async def _create(self, record: str) -> None:
        fields = {"name": CONFIG_MAP, "namespace": NAMESPACE, "annotations": {ANNOTATION: record}}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": fields}
        try:
            await self._api.request("POST", _MAPS, body=body)
        except ApiRefused as error:
            if error.status != 404:
                raise
            await self._create_namespace()
            await self._api.request("POST", _MAPS, body=body)

    async def _create_namespace(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        try:
            await self._api.request("POST", api_path("api", "v1", "namespaces"), body=body)
        except ApiRefused as error:
            if error.status != 409:  # somebody else was faster
                raise

    async def _write(self, config_map: JsonObject, annotations: JsonObject) -> None:
        """Replace it, unless somebody else did so since it was read: then it is a conflict."""
        fields = {**metadata(config_map), "annotations": annotations}
        await self._api.request("PUT", _MAP, body={**config_map, "metadata": fields})

    def _warn(self, sentence: str) -> None:
        if (repeats := self._limiter.admit(sentence)) is not None:
            log.warning("%s%s", sentence, repeats)


def default_address() -> str:
    """This host's address on its default route, IPv4 first; empty where there is none."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        # Connecting a datagram socket sends nothing; it only chooses the route.
        with (
            contextlib.suppress(OSError),
            socket.socket(family, socket.SOCK_DGRAM) as probe,
        ):
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    return ""
