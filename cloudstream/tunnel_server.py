"""The tunnel port, 10004: where edge nodes dial in.

A node is who its client certificate says (``CN=system:node:<name>``, ``O=system:nodes``, as
KubeEdge issues them); the headers only have to agree.
"""

import asyncio
import logging
import time
from ipaddress import ip_address
from urllib.parse import urlsplit

from cloudstream.config import CloudDeadlines, CloudLimits
from cloudstream.registry import ConnectedNode, Registry
from cloudstream.tunnel_socket import (
    Admission,
    Handshake,
    SocketLimits,
    TunnelSocket,
    tunnel_protocol,
)
from streamkit.errors import (
    BadKubeletPath,
    HandshakeRejected,
    NodeIdentityMismatch,
    NotAllowed,
    StreamError,
    TunnelClosed,
)
from streamkit.pki.contexts import peer_identity
from streamkit.session.v1_cloud import V1CloudSession

log = logging.getLogger(__name__)

CONNECT_PATH = "/v1/kubeedge/connect"
NODE_NAME_HEADER = "SessionHostNameOverride"
NODE_IP_HEADER = "SessionInternalIP"
_NODE_PREFIX = "system:node:"
_NODE_GROUP = "system:nodes"


class TunnelServer:
    """Admits edges and keeps the registry true to the tunnels that live."""

    def __init__(self, registry: Registry, deadlines: CloudDeadlines, limits: CloudLimits) -> None:
        self._registry = registry
        self._limits = limits
        self._socket_limits = SocketLimits(
            deadlines.handshake,
            deadlines.heartbeat,
            deadlines.heartbeat_timeout,
            limits.max_message_bytes,
        )

    def connection(self) -> asyncio.BaseProtocol:
        """The protocol of a connection that has just been accepted."""
        return tunnel_protocol(self._admit, self._socket_limits)

    def close(self) -> None:
        """Tell every edge that the service shuts down, and end its tunnel."""
        for node in self._registry.nodes():
            node.tunnel.close(TunnelClosed("the cloud service shuts down"))

    def _admit(self, handshake: Handshake) -> Admission:
        if handshake.path.partition("?")[0].rstrip("/") != CONNECT_PATH:
            raise BadKubeletPath("404 page not found")
        _check_origin(handshake)
        name = _node_name(handshake)
        address = _node_address(handshake)
        session = V1CloudSession(buffer_limit=self._limits.channel_buffer_bytes)
        entry: list[ConnectedNode] = []
        started = time.monotonic()

        def opened(tunnel: TunnelSocket) -> None:
            entry.append(ConnectedNode(name, address, session, tunnel))
            self._registry.add(entry[0])
            log.info('node "%s" (%s) is connected from %s', name, address, handshake.peer_address)

        def closed(error: StreamError) -> None:
            for node in entry:
                self._registry.remove(node)
            seconds = time.monotonic() - started
            log.info('node "%s" is disconnected after %.0f s: %s', name, seconds, error)
            session.close(error)

        return Admission(session, opened, closed)


def _node_address(handshake: Handshake) -> str:
    """The announced internal IP in its usual spelling; the peer's where none is announced."""
    try:
        return str(ip_address(handshake.headers.get(NODE_IP_HEADER, "")))
    except ValueError:
        return handshake.peer_address


def _check_origin(handshake: Handshake) -> None:
    """Browsers send an Origin; one from elsewhere is refused, as KubeEdge's upgrader does."""
    origin = handshake.headers.get("Origin")
    if origin and urlsplit(origin).netloc.lower() != handshake.headers.get("Host", "").lower():
        raise NotAllowed("websocket: request origin not allowed by Upgrader.CheckOrigin")


def _node_name(handshake: Handshake) -> str:
    identity = peer_identity(handshake.peercert)
    certified = identity.common_name.removeprefix(_NODE_PREFIX)
    if certified == identity.common_name or not certified:
        raise NodeIdentityMismatch(
            f'the certificate of "{identity.common_name}" is no edge node\'s: its common name must'
            f" be {_NODE_PREFIX}<node name>",
        )
    if _NODE_GROUP not in identity.organizations:
        raise NodeIdentityMismatch(
            f'the certificate of node "{certified}" lacks the organization {_NODE_GROUP}'
        )
    announced = handshake.headers.get(NODE_NAME_HEADER, "")
    if not announced:
        raise HandshakeRejected(f"the edge sent no {NODE_NAME_HEADER} header")
    if announced != certified:
        raise NodeIdentityMismatch(
            f'the edge calls itself "{announced}" with the certificate of node "{certified}"',
            hint="hostnameOverride and the certificate's common name must agree",
        )
    return certified
