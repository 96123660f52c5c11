"""What the Kubernetes API says about where to lead connections: the record, and the edge nodes."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from cloudstream.iptables.host import is_local
from cloudstream.iptables.rules import Forward, Network, wanted_rules
from cloudstream.iptables.tool import Family
from cloudstream.kube.api import JsonObject, KubeApi, api_path
from cloudstream.kube.follow import follow, metadata
from cloudstream.kube.port_record import (
    ANNOTATION,
    CONFIG_MAP,
    NAMESPACE,
    BadRecord,
    PortRecord,
    edge_entries,
    is_address,
    parse_record,
    same_spelling,
)
from streamkit.service.tasks import spawn

log = logging.getLogger(__name__)

_EDGE_LABEL = "node-role.kubernetes.io/edge"


@dataclass(frozen=True, slots=True)
class Scope:
    """For which destinations connections are led to the cloud service.

    ``networks`` None means the edge nodes' own addresses; ``any_address`` every destination at the
    port, as KubeEdge has it.
    """

    networks: tuple[Network, ...] | None = None
    any_address: bool = False


def parse_scope(text: str) -> Scope:
    """``nodes``, ``any``, or addresses and networks with commas between. Raises ValueError."""
    if text == "nodes":
        return Scope()
    if text == "any":
        return Scope(any_address=True)
    return Scope(tuple(ip_network(part.strip()) for part in text.split(",")))


class ForwardingView:
    """The record and the edge nodes as they were last known; an outage changes neither.

    ``changed`` is called after each change.
    """

    def __init__(
        self, api: KubeApi, scope: Scope, *, stream_port: int, changed: Callable[[], None]
    ) -> None:
        self._api = api
        self._scope = scope
        self._stream_port = stream_port
        self._record = _RecordView(changed)
        self._nodes = _NodeView(changed)

    async def run(self) -> None:
        """Follow the API until cancelled."""
        maps = api_path("api", "v1", "namespaces", NAMESPACE, "configmaps")
        only = {"fieldSelector": f"metadata.name={CONFIG_MAP}"}
        edges = {"labelSelector": _EDGE_LABEL}
        nodes = api_path("api", "v1", "nodes")
        async with asyncio.TaskGroup() as group:
            record = follow(self._api, maps, self._record, selectors=only)
            spawn(record, name="tunnelport watch", owner=group)
            spawn(
                follow(self._api, nodes, self._nodes, selectors=edges),
                name="edge node watch",
                owner=group,
            )

    @property
    def lacks(self) -> str:
        """What is not known yet, as a sentence; empty once the rules can be made."""
        if self._record.record is None:
            return self._record.problem or f"the ConfigMap {NAMESPACE}/{CONFIG_MAP} is not read yet"
        if self._scope == Scope() and not self._nodes.is_listed:
            return "the edge nodes are not read yet"
        return ""

    def problems(self) -> list[str]:
        """What of the record is not obeyed, and why."""
        found = [self._record.problem] if self._record.problem else []
        if (record := self._record.record) is None:
            return found
        found += record.problems
        if edges := self._edge_keys(record):
            found.append(
                f"the record's keys {', '.join(edges)} are edge nodes, and have to be cloud "
                "services: they are left out"
            )
        return found

    def wanted(self) -> Mapping[Family, Sequence[str]]:
        """The rules of each IP version."""
        forwards = self._forwards()
        scope = self._scope
        found: dict[Family, Sequence[str]] = {}
        for family in Family:
            of_family = [each for each in forwards if ip_address(each.address).version == family]
            edges: list[Network] | None = None
            if not scope.any_address:
                networks = self._nodes.networks() if scope.networks is None else scope.networks
                edges = [each for each in networks if each.version == family]
            found[family] = wanted_rules(of_family, edges, stream_port=self._stream_port)
        return found

    def cloud_addresses(self) -> list[str]:
        """The cloud services in the record."""
        return [forward.address for forward in self._forwards()]

    def _forwards(self) -> list[Forward]:
        record = self._record.record or PortRecord()
        left_out = set(self._edge_keys(record))
        found = {
            Forward(port, same_spelling(key))
            for key, port in record.by_address.items()
            if key not in left_out and is_address(key)
        }
        return sorted(found, key=lambda each: (each.port, each.address))

    def _edge_keys(self, record: PortRecord) -> list[str]:
        """Addresses of this very host are cloud services, whoever else has them."""
        edges = [str(network.network_address) for network in self._nodes.networks()]
        return [key for key in edge_entries(record, edges) if not is_local(same_spelling(key))]


class _RecordView:
    """The last record that could be read."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.record: PortRecord | None = None
        self.problem = ""

    def listed(self, objects: list[JsonObject]) -> None:
        if objects:
            self._take(objects[0])
        else:
            self._miss()

    def watching(self) -> None:
        pass

    def changed(self, kind: str, item: JsonObject) -> None:
        if kind == "DELETED":
            self._miss()
        else:
            self._take(item)

    def lost(self) -> None:
        pass

    def _miss(self) -> None:
        self.problem = f"there is no ConfigMap {NAMESPACE}/{CONFIG_MAP}"
        self._changed()

    def _take(self, config_map: JsonObject) -> None:
        annotations = metadata(config_map).get("annotations")
        text = annotations.get(ANNOTATION) if isinstance(annotations, dict) else None
        try:
            self.record = parse_record(text)
            self.problem = ""
        except BadRecord as error:
            self.problem = f"ConfigMap {NAMESPACE}/{CONFIG_MAP}: {error}"
        self._changed()


class _NodeView:
    """The internal addresses of edge nodes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._by_name: dict[str, tuple[str, ...]] = {}
        self.is_listed = False

    def networks(self) -> list[Network]:
        """One network per address, sorted, IPv4 first."""
        found = {ip_network(each) for addresses in self._by_name.values() for each in addresses}
        return sorted(found, key=lambda each: (each.version, int(each.network_address)))

    def listed(self, objects: list[JsonObject]) -> None:
        self._by_name = {_name(node): internal_addresses(node) for node in objects}
        self.is_listed = True
        self._changed()

    def watching(self) -> None:
        pass

    def changed(self, kind: str, item: JsonObject) -> None:
        name = _name(item)
        found = () if kind == "DELETED" else internal_addresses(item)
        if self._by_name.get(name, ()) != found:
            self._by_name[name] = found
            self._changed()

    def lost(self) -> None:
        pass


def internal_addresses(node: JsonObject) -> tuple[str, ...]:
    """The InternalIP addresses of a Node; what is no address is left out."""
    status = node.get("status")
    addresses = status.get("addresses") if isinstance(status, dict) else None
    found = (
        same_spelling(str(each.get("address")))
        for each in (addresses if isinstance(addresses, list) else ())
        if isinstance(each, dict) and each.get("type") == "InternalIP"
    )
    return tuple(address for address in found if is_address(address))


def _name(node: JsonObject) -> str:
    return str(metadata(node).get("name"))
