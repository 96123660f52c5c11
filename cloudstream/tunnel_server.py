"""The tunnel port, 10004: where edge nodes dial in.

A node is who its client certificate says (``CN=system:node:<name>``, ``O=system:nodes``, as
KubeEdge issues them); the headers only have to agree.
"""

import asyncio
import contextlib
import logging
import math
import secrets
from urllib.parse import urlsplit

from cloudstream.addresses import unmapped_address
from cloudstream.config import CloudDeadlines, CloudLimits
from cloudstream.node_session import NodeSession
from cloudstream.registry import Registry
from cloudstream.tunnel_socket import Admission, EdgeTunnel, Handshake, tunnel_protocol
from cloudstream.tunnel_tally import TunnelTally
from streamkit.errors import (
    BadKubeletPath,
    BadRequest,
    Draining,
    NodeIdentityMismatch,
    NotAllowed,
    StreamError,
    TunnelClosed,
)
from streamkit.pki.contexts import peer_identity
from streamkit.session.session import CloudSession
from streamkit.session.socket import SocketLimits
from streamkit.session.v1_cloud import V1CloudSession
from streamkit.session.v2 import V2CloudSession
from streamkit.wire.message import CONNECT_PATH, NODE_IP_HEADER, NODE_NAME_HEADER
from streamkit.wire.v2 import V2Settings
from streamkit.wire.v2_message import SESSION_HEADER, SUBPROTOCOL

log = logging.getLogger(__name__)

CLOSED_GRACE = 0.6
"""Seconds that an edge has to come back after its connection was closed without a word. Either it
was killed, and its sessions are over; or somebody in between has closed, and it dials at once."""

_NODE_PREFIX = "system:node:"
_NODE_GROUP = "system:nodes"


class TunnelServer:
    """Admits edges and keeps the registry true to the sessions that live."""

    def __init__(self, registry: Registry, deadlines: CloudDeadlines, limits: CloudLimits) -> None:
        self.tally = TunnelTally()
        self._registry = registry
        self._limits = limits
        self._is_draining = False
        self._resume_timeout = deadlines.resume_timeout
        self._v2_settings = V2Settings(resume_timeout=deadlines.resume_timeout)
        self._socket_limits = SocketLimits(
            deadlines.handshake,
            deadlines.heartbeat,
            silence=deadlines.heartbeat_timeout,
            first_sign=deadlines.heartbeat_timeout,
            write=deadlines.heartbeat_timeout,
            max_message=limits.max_message_bytes,
        )

    def connection(self) -> asyncio.BaseProtocol:
        """The protocol of a connection that has just been accepted."""
        return tunnel_protocol(self._admit, self._socket_limits)

    def drain(self) -> list[str]:
        """Tell every edge of ours that the service is about to stop; what runs goes on.

        Such an edge dials again at once, and its session is released when it has got through. Stock
        edges can't be told: they stay, and the names that are returned are those of the others.
        """
        self._is_draining = True
        names = []
        for node in self._registry.nodes():
            if isinstance(node.session, V2CloudSession):
                node.is_draining = True
                node.session.drain("the cloud service is stopping")
                names.append(node.name)
        return names

    @property
    def has_edges_to_move(self) -> bool:
        """Whether there are still edges that were told to dial again, and have not done so."""
        return any(
            isinstance(node.session, V2CloudSession) and not node.is_suspended
            for node in self._registry.nodes()
        )

    def close(self) -> None:
        """Tell every edge that the service shuts down, and end its session."""
        for node in (*self._registry.nodes(), *self._registry.released()):
            node.close(TunnelClosed("the cloud service shuts down"))

    def _admit(self, handshake: Handshake) -> Admission:
        if handshake.path.partition("?")[0].rstrip("/") != CONNECT_PATH:
            raise BadKubeletPath("404 page not found")
        if self._is_draining:
            raise Draining("the cloud service is stopping")
        _check_origin(handshake)
        name = _node_name(handshake)
        address = _node_address(handshake)
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in handshake.subprotocols else ""
        token = handshake.headers.get(SESSION_HEADER, "") if subprotocol else ""
        node: NodeSession | None = None

        def opened(tunnel: EdgeTunnel) -> CloudSession:
            nonlocal node
            # Chosen only now: a session that was kept a moment ago may have ended since.
            kept = self._kept_session(name, token)
            node = kept or self._new_session(name, subprotocol)
            node.attach(tunnel, address)
            if self._registry.find(name) is not node:
                self._registry.add(node)
            self.tally.opened(tunnel, is_v2=bool(subprotocol), is_resumed=kept is not None)
            log.info(
                'node "%s" (%s) is connected from %s, speaking %s',
                name,
                address,
                handshake.peer_address,
                "v2" if subprotocol else "v1",
            )
            return node.session

        def closed(tunnel: EdgeTunnel, error: StreamError, will_return: bool) -> None:
            log.info('node "%s" is disconnected: %s', name, error)
            self.tally.closed(tunnel, error)
            if node:
                within = CLOSED_GRACE if tunnel.was_closed else math.inf
                node.detach(tunnel, error, will_return=will_return, within=within)

        return Admission(opened, closed, self.tally.round_trips.observe, subprotocol)

    def _kept_session(self, name: str, token: str) -> NodeSession | None:
        """The session that the edge asks for by its token, if it is still kept."""
        node = self._registry.find(name)
        if node is None or not isinstance(node.session, V2CloudSession):
            return None
        # A header may hold bytes that are no text.
        asked = token.encode(errors="surrogateescape")
        return node if secrets.compare_digest(node.session.token.encode(), asked) else None

    def _new_session(self, name: str, subprotocol: str) -> NodeSession:
        session: CloudSession
        if subprotocol:
            session = V2CloudSession(secrets.token_hex(16), self._v2_settings)
        else:
            session = V1CloudSession(buffer_limit=self._limits.channel_buffer_bytes)
        node = NodeSession(
            name, session, resume_timeout=self._resume_timeout, ended=self._registry.remove
        )
        session.drained = lambda _: self._registry.release(node)
        return node


def _node_address(handshake: Handshake) -> str:
    """The announced internal IP in its usual spelling; the peer's where none is announced."""
    for text in (handshake.headers.get(NODE_IP_HEADER, ""), handshake.peer_address):
        with contextlib.suppress(ValueError):
            return str(unmapped_address(text.partition("%")[0]))
    return ""


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
        raise BadRequest(f"the edge sent no {NODE_NAME_HEADER} header")
    if announced != certified:
        raise NodeIdentityMismatch(
            f'the edge calls itself "{announced}" with the certificate of node "{certified}"',
            hint="hostnameOverride and the certificate's common name must agree",
        )
    return certified
