"""Who an edge is, and where."""

from collections.abc import Mapping
from typing import cast

import pytest

from cloudstream.config import CloudDeadlines, CloudLimits
from cloudstream.registry import Registry
from cloudstream.tunnel_server import TunnelServer
from cloudstream.tunnel_socket import EdgeTunnel, Handshake
from streamkit.errors import BadKubeletPath, BadRequest, NodeIdentityMismatch, NotAllowed
from tests.unit.cloudstream.nodes import FakeTunnel


def peercert(name: str, *organizations: str) -> Mapping[str, object]:
    lines = [(("organizationName", organization),) for organization in organizations]
    return {"subject": (*lines, (("commonName", name),))}


def admitted(
    *,
    path: str = "/v1/kubeedge/connect",
    name: str = "edge-1",
    address: str | None = "10.0.0.7",
    certificate: Mapping[str, object] | None = None,
    peer: str = "192.0.2.1",
    origin: str = "",
) -> tuple[str, str]:
    """The node's name and address after an edge has connected."""
    headers = {"Host": "cloud:10004"}
    if name:
        headers["SessionHostNameOverride"] = name
    if address is not None:
        headers["SessionInternalIP"] = address
    if origin:
        headers["Origin"] = origin
    if certificate is None:
        certificate = peercert("system:node:edge-1", "system:nodes")
    registry = Registry()
    server = TunnelServer(registry, CloudDeadlines(), CloudLimits())
    admission = server._admit(Handshake(path, headers, (), certificate, peer))
    admission.opened(cast(EdgeTunnel, FakeTunnel()))
    (node,) = registry.nodes()
    return node.name, node.internal_ip


@pytest.mark.parametrize(
    ("certificate", "sentence"),
    [
        (peercert("system:node:edge-2", "system:nodes"), 'calls itself "edge-1" with the cert'),
        (peercert("edge-1", "system:nodes"), 'the certificate of "edge-1" is no edge node\'s'),
        (peercert("system:node:", "system:nodes"), "is no edge node's"),
        (peercert("system:node:edge-1", "system:masters"), "lacks the organization system:nodes"),
        (peercert("system:node:edge-1"), "lacks the organization system:nodes"),
        (peercert("System:Node:edge-1", "system:nodes"), "is no edge node's"),
        ({}, "is no edge node's"),
    ],
)
def test_a_node_is_who_its_certificate_says(
    certificate: Mapping[str, object], sentence: str
) -> None:
    with pytest.raises(NodeIdentityMismatch) as raised:
        admitted(certificate=certificate)
    assert sentence in str(raised.value)
    assert raised.value.http_status == 403


def test_an_edge_has_to_name_itself() -> None:
    with pytest.raises(BadRequest) as raised:
        admitted(name="")
    assert raised.value.http_status == 400


@pytest.mark.parametrize(
    ("announced", "peer", "expected"),
    [
        ("10.0.0.7", "192.0.2.1", "10.0.0.7"),
        ("fd00:0:0::7", "192.0.2.1", "fd00::7"),
        ("::ffff:10.0.0.7", "192.0.2.1", "10.0.0.7"),
        (None, "192.0.2.1", "192.0.2.1"),
        ("", "::ffff:192.0.2.1", "192.0.2.1"),
        ("[fd00", "fe80::1%eth0", "fe80::1"),
        ("edge-2", "", ""),
    ],
)
def test_its_address_is_the_announced_one_or_the_peers(
    announced: str | None, peer: str, expected: str
) -> None:
    assert admitted(address=announced, peer=peer) == ("edge-1", expected)


@pytest.mark.parametrize(
    "path", ["/", "/v1/kubeedge", "/v1/kubeedge/connect/x", "/V1/kubeedge/connect"]
)
def test_there_is_one_path(path: str) -> None:
    with pytest.raises(BadKubeletPath):
        admitted(path=path)


@pytest.mark.parametrize("origin", ["https://cloud:10004", "http://CLOUD:10004"])
def test_an_equal_origin_is_fine(origin: str) -> None:
    assert admitted(origin=origin)[0] == "edge-1"


@pytest.mark.parametrize("origin", ["https://evil.example", "https://cloud", "null"])
def test_a_foreign_origin_is_refused(origin: str) -> None:
    with pytest.raises(NotAllowed, match="request origin not allowed"):
        admitted(origin=origin)
