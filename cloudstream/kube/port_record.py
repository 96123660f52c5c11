"""KubeEdge's record of which cloud service has which kubelet port.

It is JSON in an annotation of a ConfigMap: ``{"ipTunnelPort":{"10.0.0.1":10351},"port":{"10351":
true}}``. The keys of ``ipTunnelPort`` are addresses of cloud services; ``port`` lists every number
that was ever given out, and none of them is given to another address.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from cloudstream.addresses import unmapped_address

NAMESPACE = "kubeedge"
CONFIG_MAP = "tunnelport"
ANNOTATION = "tunnelportrecord.kubeedge.io"
FIRST_PORT = 10351


class BadRecord(ValueError):
    """There is no record, or nothing in it can be read. The text says what there is instead."""


@dataclass(frozen=True, slots=True)
class PortRecord:
    """The record; ``problems`` are sentences about what in it could not be read."""

    by_address: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[int, bool] = field(default_factory=dict)
    problems: tuple[str, ...] = field(default=(), compare=False)

    def port_of(self, address: str) -> int | None:
        """The port of an address, however it is spelled."""
        wanted = same_spelling(address)
        found = (port for key, port in self.by_address.items() if same_spelling(key) == wanted)
        return next(found, None)

    def without(self, address: str) -> "PortRecord":
        """The record with nothing under that address; its port stays taken."""
        wanted = same_spelling(address)
        kept = {key: port for key, port in self.by_address.items() if same_spelling(key) != wanted}
        return PortRecord(kept, self.taken)

    def forgetting(self, addresses: Collection[str]) -> "PortRecord":
        """The record without those addresses; ports that nobody else has are free again."""
        kept = {key: port for key, port in self.by_address.items() if key not in addresses}
        freed = {port for key, port in self.by_address.items() if key in addresses}
        freed -= set(kept.values())
        taken = {port: value for port, value in self.taken.items() if port not in freed}
        return PortRecord(kept, taken)


def parse_record(text: str | None) -> PortRecord:
    """The record in an annotation, as far as it can be read. Raises BadRecord."""
    if not text:
        raise BadRecord(f"the annotation {ANNOTATION} is missing")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BadRecord(f"the annotation {ANNOTATION} is no JSON") from error
    if not isinstance(document, dict):
        raise BadRecord(f"the annotation {ANNOTATION} is no JSON object")
    problems: list[str] = []
    by_address: dict[str, int] = {}
    for key, value in _mapping(document, "ipTunnelPort", problems).items():
        if _is_port(value):
            by_address[key] = value
        else:
            problems.append(f"ipTunnelPort has no port for {key!r}")
        if not is_address(key):
            problems.append(f"ipTunnelPort has the key {key!r}, which is no address")
    taken: dict[int, bool] = {}
    for key, value in _mapping(document, "port", problems).items():
        if key.isdecimal() and _is_port(int(key)) and isinstance(value, bool):
            taken[int(key)] = value
        else:
            problems.append(f"port has the entry {key!r}, which is no port")
    return PortRecord(by_address, taken, tuple(problems))


def format_record(record: PortRecord) -> str:
    """The annotation, byte for byte as KubeEdge writes it."""
    document = {
        "ipTunnelPort": dict(sorted(record.by_address.items())),
        "port": dict(sorted((str(port), value) for port, value in record.taken.items())),
    }
    return json.dumps(document, separators=(",", ":"))


def negotiate(record: PortRecord, address: str, *, held: int | None) -> tuple[int, PortRecord]:
    """The port of the cloud service at that address, and the record that says so.

    The port that the record has for the address, else the one that is ``held`` already (somebody
    took the entry away), else the lowest from 10351 on that was never given out. An address that
    stands there in several spellings is left with one, and the numbers of the others are free.
    """
    address = same_spelling(address)
    others = record.without(address).by_address
    own = {key: port for key, port in record.by_address.items() if key not in others}
    used = set(others.values())
    wanted = [own.get(address), *sorted(own.values()), held]
    port = next((each for each in wanted if each is not None and each not in used), None)
    if port is None:
        port = FIRST_PORT
        while port in record.taken or port in used:
            port += 1
    freed = set(own.values()) - used - {port}
    taken = {number: value for number, value in record.taken.items() if number not in freed}
    taken |= dict.fromkeys((*used - taken.keys(), port), True)
    return port, PortRecord({**others, address: port}, taken)


def edge_entries(record: PortRecord, edges: Collection[str]) -> list[str]:
    """The keys that are addresses of edge nodes.

    Some guides have people write such records by hand; the keys have to be cloud services.
    """
    spelled = {same_spelling(address) for address in edges}
    return [key for key in record.by_address if same_spelling(key) in spelled]


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ip_address(text.strip())
    except ValueError:
        return False
    return True


def same_spelling(text: str) -> str:
    """An address in its usual spelling; any other text as it is."""
    try:
        return str(unmapped_address(text.strip()))
    except ValueError:
        return text


def _mapping(document: Mapping[str, Any], key: str, problems: list[str]) -> Mapping[str, Any]:
    found = document.get(key)
    if isinstance(found, dict):
        return found
    problems.append(f"{key} is missing" if found is None else f"{key} is no mapping")
    return {}


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536
