"""The cloud's end of one tunnel: the WebSocket handshake of an edge, and what follows.

It builds on picows' protocol class, which is not documented, so that a listener of our own can
complete the TLS handshake first; a contract test pins it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from picows import (
    WSAutoPingStrategy,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from streamkit.errors import StreamError, TunnelClosed
from streamkit.session.close_codes import CloseCode
from streamkit.session.session import CloudSession
from streamkit.session.socket import SocketLimits, SocketProtocol, TunnelSocket

log = logging.getLogger(__name__)

_READ_BUFFER = 4 * 1024


@dataclass(frozen=True, slots=True)
class Handshake:
    """What an edge brought when it asked for a tunnel."""

    path: str
    headers: Mapping[str, str]
    subprotocols: tuple[str, ...]
    peercert: Mapping[str, object] | None
    peer_address: str


@dataclass(frozen=True, slots=True)
class Admission:
    """What the tunnel server decided."""

    opened: Callable[["EdgeTunnel"], CloudSession]
    """Called when the WebSocket is open; gives the session that the tunnel carries."""
    closed: Callable[["EdgeTunnel", StreamError, bool], None]
    """Called once with the reason, and with whether the edge may come back for its session."""
    measured: Callable[[float], None]
    """Called with the seconds of each round trip."""
    subprotocol: str = ""
    """The one that was chosen, if any."""


def tunnel_protocol(
    admit: Callable[[Handshake], Admission], limits: SocketLimits
) -> asyncio.BaseProtocol:
    """The protocol of a connection that has just been accepted, TLS done.

    ``admit`` is called with the WebSocket handshake; a StreamError that it raises is answered with
    its HTTP status and sentence.
    """

    def listener(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        handshake = _handshake(request, protocol.transport.underlying_transport)
        try:
            admission = admit(handshake)
        except StreamError as error:
            log.warning(
                "refused a tunnel from %s: %s [%s]", handshake.peer_address, error, error.code
            )
            body = f"{error}\n".encode()
            response = WSUpgradeResponse.create_error_response(error.http_status or 400, body)
            return WSUpgradeResponseWithListener(response, None)
        extra = {"Sec-WebSocket-Protocol": admission.subprotocol} if admission.subprotocol else None
        response = WSUpgradeResponse.create_101_response(extra)
        return WSUpgradeResponseWithListener(response, EdgeTunnel(admission, limits))

    protocol = SocketProtocol(
        None,
        None,
        False,
        listener,
        logging.getLogger("picows"),
        True,
        limits.handshake,
        False,
        limits.heartbeat,
        limits.heartbeat,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,
        limits.max_message,
        None,
        _READ_BUFFER,
    )
    made: asyncio.BaseProtocol = protocol
    return made


def _handshake(request: WSUpgradeRequest, transport: Any) -> Handshake:
    address = transport.get_extra_info("peername")
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ()))
    return Handshake(
        request.path.decode("latin-1"),
        request.headers,
        tuple(name.strip() for name in offered.split(",")),
        transport.get_extra_info("peercert"),
        str(address[0]) if address else "",
    )


class EdgeTunnel(TunnelSocket):
    """One edge's tunnel."""

    def __init__(self, admission: Admission, limits: SocketLimits) -> None:
        super().__init__(limits)
        self._admission = admission
        self.was_closed = False
        """Whether the connection ended in good order, and without a word of the edge's."""

    def close(self, error: StreamError) -> None:
        """End the tunnel and its session, and tell the edge why. Idempotent."""
        self.hang_up(error, will_return=False)

    def connected(self) -> None:
        self.carry(self._admission.opened(self))

    def ended(self, error: StreamError, *, will_return: bool) -> None:
        self._admission.closed(self, error, will_return)

    def round_trip_measured(self, seconds: float) -> None:
        super().round_trip_measured(seconds)
        self._admission.measured(seconds)

    def close_received(self, code: int, reason: str) -> tuple[StreamError, bool]:
        error = TunnelClosed(f"the edge closed the tunnel: {reason}")
        return error, code in (CloseCode.HEARTBEAT, CloseCode.DRAINING)

    def lost(self) -> tuple[StreamError, bool]:
        self.was_closed = not self.was_cut
        how = "broke" if self.was_cut else "was closed by the edge's host"
        return TunnelClosed(f"the edge's connection {how}"), True
