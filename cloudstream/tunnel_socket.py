"""The cloud's end of one tunnel: a WebSocket that carries a session's messages.

The only module that knows picows. It builds on picows' protocol class, which is not documented, so
that a listener of our own can complete the TLS handshake first; a contract test pins it.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import picows.picows
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from streamkit.errors import HeartbeatTimeout, RemoteProtocolError, StreamError, TunnelClosed
from streamkit.session.close_codes import CloseCode, close_code_of
from streamkit.session.session import CloudSession

log = logging.getLogger(__name__)

_WSProtocol: Any = vars(picows.picows)["WSProtocol"]
_READ_BUFFER = 4 * 1024
_WRITE_BUFFER = 64 * 1024
_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
_UNSENT_IN_KERNEL = 128 * 1024


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
    """What the tunnel server decided: the session to carry, and the subprotocol if any."""

    session: CloudSession
    opened: Callable[["TunnelSocket"], None]
    closed: Callable[["TunnelSocket", StreamError, bool], None]
    """Called once with the reason, and with whether the edge may come back for its session."""
    subprotocol: str = ""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Deadlines in seconds and sizes in bytes of one tunnel's socket."""

    handshake: float
    heartbeat: float
    heartbeat_timeout: float
    max_message: int


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
        return WSUpgradeResponseWithListener(response, TunnelSocket(admission, limits))

    protocol = _Protocol(
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


class _Protocol(_WSProtocol):
    """Remembers how the connection ended, which picows does not pass on."""

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(self.listener, TunnelSocket):
            self.listener.was_cut = exc is not None
        super().connection_lost(exc)


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


class TunnelSocket(WSListener):
    """One tunnel. Reading never waits for a channel; writing happens when the socket has room."""

    def __init__(self, admission: Admission, limits: SocketLimits) -> None:
        self._admission = admission
        self._session = admission.session
        self._limits = limits
        self._transport: WSTransport | None = None
        self._fragments: list[bytes] = []
        self._fragments_size = 0
        self._is_full = False
        self._is_pumping = False
        self._is_ended = False
        self._frames = 0
        self._frames_at_heartbeat = -1
        self._silence = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._pinged_at = 0.0
        self.was_cut = False
        """Whether the connection broke; a killed process or a restarted one ends it with a FIN."""

    # -- from picows -----------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        underlying = transport.underlying_transport
        underlying.set_write_buffer_limits(high=_WRITE_BUFFER)
        sock = underlying.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_IN_KERNEL)
        self._admission.opened(self)
        self._session.output_ready = self._pump
        self._session.attach()
        self._heartbeat()
        self._pump()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._frames += 1
        message_type = frame.msg_type
        if message_type == WSMsgType.CLOSE:
            reason = frame.get_close_reason() or "no reason given"
            code = cast(int, frame.get_close_code())
            will_return = code in (CloseCode.HEARTBEAT, CloseCode.DRAINING)
            error = TunnelClosed(f"the edge closed the tunnel: {reason}")
            self._hang_up(error, will_return=will_return)
        elif message_type == WSMsgType.PING:
            # Not left to picows, which would not let us see this sign of life: a stock edge that
            # is stuck in one channel answers no ping and goes on to send its own.
            transport.send_pong(frame.get_payload_as_bytes())
        elif message_type == WSMsgType.PONG:
            loop = asyncio.get_running_loop()
            self._session.round_trip_measured(loop.time() - self._pinged_at)
        elif message_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            payload = frame.get_payload_as_bytes()
            if frame.fin and not self._fragments:
                self._receive(payload)
            else:
                self._receive_fragment(payload, is_last=frame.fin)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        how = "broke" if self.was_cut else "was closed by the edge's host"
        self._end(TunnelClosed(f"the edge's connection {how}"), will_return=self.was_cut)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._pump()

    # -- from the tunnel server --------------------------------------------------------------

    def close(self, error: StreamError) -> None:
        """End the tunnel and its session, and tell the edge why. Idempotent."""
        self._hang_up(error, will_return=False)

    def drain(self, error: StreamError) -> None:
        """End the tunnel and tell the edge to come back, for its session. Idempotent."""
        self._hang_up(error, will_return=True)

    def _hang_up(self, error: StreamError, *, will_return: bool) -> None:
        if self._is_ended or self._transport is None:
            return
        code = cast(WSCloseCode, int(close_code_of(error)))
        self._transport.send_close(code, str(error).encode()[:120])
        self._transport.disconnect()
        self._end(error, will_return=will_return)

    # -- inside ------------------------------------------------------------------------------

    def _receive(self, payload: bytes) -> None:
        if self._is_ended:
            return
        try:
            self._session.message_received(payload)
        except StreamError as error:
            self.close(error)

    def _receive_fragment(self, payload: bytes, *, is_last: bool) -> None:
        self._fragments.append(payload)
        self._fragments_size += len(payload)
        if self._fragments_size > self._limits.max_message:
            self.close(RemoteProtocolError("the edge sent a message larger than allowed"))
        elif is_last:
            whole = b"".join(self._fragments)
            self._fragments.clear()
            self._fragments_size = 0
            self._receive(whole)

    def _pump(self) -> None:
        # A handler that is told to write on, while a message is taken, ends up here again.
        if self._is_pumping or self._is_ended or self._transport is None:
            return
        self._is_pumping = True
        frame_type = WSMsgType.TEXT if self._session.is_text else WSMsgType.BINARY
        try:
            while not self._is_full and (message := self._session.next_message()) is not None:
                self._transport.send(frame_type, message)
        finally:
            self._is_pumping = False

    def _heartbeat(self) -> None:
        if self._is_ended or self._transport is None:
            return
        if self._frames == self._frames_at_heartbeat:
            self._silence += self._limits.heartbeat
        else:
            self._silence = 0.0
        if self._silence >= self._limits.heartbeat_timeout:
            error = HeartbeatTimeout(f"the edge was silent for {self._silence:g} s")
            self._end(error, will_return=True)
            self._transport.disconnect(graceful=False)
            return
        self._frames_at_heartbeat = self._frames
        loop = asyncio.get_running_loop()
        self._pinged_at = loop.time()
        self._transport.send_ping()
        self._timer = loop.call_later(self._limits.heartbeat, self._heartbeat)

    def _end(self, error: StreamError, *, will_return: bool) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        if self._timer:
            self._timer.cancel()
        self._admission.closed(self, error, will_return)
