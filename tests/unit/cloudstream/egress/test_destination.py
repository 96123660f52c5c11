"""Where a CONNECT may lead."""

from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from cloudstream.egress.destination import Destinations, Edge, Elsewhere
from cloudstream.registry import Registry
from streamkit.errors import EgressFailed, NotAllowed
from tests.unit.cloudstream.nodes import connected


@dataclass
class Ports:
    """An agreed port, and another cloud service's."""

    port: int | None = 10351

    def is_foreign(self, port: int) -> bool:
        return port == 10352


def destinations(*networks: str, ports: Ports | None = None) -> Destinations:
    registry = Registry()
    for name, address in (("edge-1", "10.2.4.15"), ("edge-2", "10.2.4.16"), ("twin", "10.2.4.16")):
        node = connected(name)
        node.internal_ip = address
        registry.add(node)
    return Destinations(
        registry,
        ports or Ports(),
        configured_port=10350,
        networks=tuple(map(ip_network, networks)),
    )


@pytest.mark.parametrize(
    ("host", "port", "dialled"),
    [
        ("10.2.4.15", 10351, "10.2.4.15"),
        ("10.2.4.99", 10351, "10.2.4.99"),  # not connected: the stream server says so
        ("10.2.4.99", 10352, "10.2.4.99"),
        ("10.2.4.15", 10350, "10.2.4.15"),
        ("edge-1", 10250, "edge-1"),
        ("EDGE-1.", 10351, "edge-1"),
        ("::ffff:10.2.4.15", 10250, "10.2.4.15"),
        ("10.2.4.16", 10250, "10.2.4.16"),  # of two nodes: the pod says which
    ],
)
async def test_kubelet_ports_lead_to_the_stream_server(host: str, port: int, dialled: str) -> None:
    found = await destinations("0.0.0.0/0").find(host, port, within=1)
    assert found == Edge(dialled)


async def test_before_a_port_is_agreed_on_the_configured_one_counts() -> None:
    wanted = destinations(ports=Ports(None))
    assert await wanted.find("10.2.4.99", 10350, within=1) == Edge("10.2.4.99")
    with pytest.raises(NotAllowed):
        await wanted.find("10.2.4.99", 10351, within=1)


@pytest.mark.parametrize("host", ["10.2.4.15", "edge-1", "10.2.4.16"])
async def test_other_ports_of_edge_nodes_are_refused(host: str) -> None:
    with pytest.raises(NotAllowed, match="only its kubelet port"):
        await destinations("0.0.0.0/0").find(host, 443, within=1)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("10.96.0.1", ["10.96.0.0/12"]),
        ("10.96.0.1", ["0.0.0.0/0"]),
        ("fd00::1", ["10.96.0.0/12", "::/0"]),
        ("127.0.0.1", ["127.0.0.0/8"]),
        ("::1", ["::1/128"]),
        ("169.254.169.254", ["169.254.0.0/16"]),
    ],
)
async def test_what_is_allowed_is_relayed(host: str, allowed: list[str]) -> None:
    assert await destinations(*allowed).find(host, 443, within=1) == Elsewhere(host, 443)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost"),
        *("169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"),
    ],
)
async def test_whoever_allows_everything_does_not_mean_the_loopback(host: str) -> None:
    with pytest.raises(NotAllowed, match=r"egress\.relayTo does not allow"):
        await destinations("0.0.0.0/0", "::/0").find(host, 443, within=1)


async def test_by_default_nothing_is_relayed() -> None:
    with pytest.raises(NotAllowed):
        await destinations().find("10.96.0.1", 443, within=1)


async def test_a_name_is_relayed_to_the_address_that_was_checked() -> None:
    found = await destinations("127.0.0.0/8").find("localhost", 443, within=5)
    assert found == Elsewhere("127.0.0.1", 443)
    with pytest.raises(EgressFailed, match="can't be resolved"):
        await destinations("0.0.0.0/0").find("no-such-name.invalid", 443, within=5)
