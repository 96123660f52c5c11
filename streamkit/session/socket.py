"""One tunnel's WebSocket over picows: frames in, frames out, heartbeats. Both sides build on it.

picows calls back for each frame, so that a message crosses without a task switch. Reading never
waits for a channel; writing happens when the socket has room.
"""

import asyncio
import logging
import struct
import time
import traceback
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, cast

import picows.picows
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from streamkit.errors import (
    HeartbeatTimeout,
    LocalProtocolError,
    MessageTooLarge,
    RemoteProtocolError,
    StreamError,
)
from streamkit.session.close_codes import close_code_of, close_reason_of
from streamkit.session.frames import send_frame
from streamkit.session.kernel import bound_unsent, progress
from streamkit.session.pace import Pace
from streamkit.session.respite import Respite
from streamkit.session.session import Session

log = logging.getLogger(__name__)

_WSProtocol: Any = vars(picows.picows)["WSProtocol"]
_MESSAGE = 64 * 1024
"""How large messages are at first."""
_PROBES = (0.1, 0.2, 0.7)
"""Seconds from one measurement of the link to the next, at the beginning."""
_PING_TIME = struct.Struct("!d")


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Deadlines in seconds and sizes in bytes of one tunnel's socket."""

    handshake: float
    """How long the peer may take to its request, and then to say hello where it has to."""
    heartbeat: float
    silence: float
    first_sign: float
    """How long the peer may take to its first frame."""
    write: float
    """How long the peer may take nothing."""
    max_message: int


class SocketProtocol(_WSProtocol):
    """picows' protocol, which remembers how the connection ended: picows does not pass it on."""

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(self.listener, TunnelSocket):
            self.listener.was_cut = exc is not None
        super().connection_lost(exc)


class TunnelSocket(WSListener):
    """Carries a session over one WebSocket until either ends. ``was_cut``: the connection broke."""

    def __init__(self, limits: SocketLimits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self._is_fragmented = False
        self._early: list[bytes] = []
        self._is_full = False
        self._pace = Pace(_MESSAGE)
        self._respite: Respite | None = None
        self._full_since = 0.0
        self._is_pumping = False
        self._is_turn_over_due = False
        self._is_ended = False
        self._frame_type = WSMsgType.BINARY
        self._frames = 0
        self._seen_at_heartbeat = (-1, -1)
        self._acknowledged = 0
        self._silence = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._hello_due = 0.0
        self.was_cut = False
        self.round_trip = 0.0
        """Seconds that the last ping took to the peer and back; 0 before the first."""

    @abstractmethod
    def connected(self) -> None:
        """The WebSocket is open; ``carry`` may be called."""

    @abstractmethod
    def ended(self, error: StreamError, *, will_return: bool) -> None:
        """The tunnel is over, once. ``will_return``: the session may go on over another."""

    @abstractmethod
    def close_received(self, code: int, reason: str) -> tuple[StreamError, bool]:
        """What the peer's close frame means, and whether the session may go on."""

    @abstractmethod
    def lost(self) -> tuple[StreamError, bool]:
        """What the end of the connection means, and whether the session may go on."""

    def round_trip_measured(self, seconds: float) -> None:
        """A ping was answered."""
        self.round_trip = seconds

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes that the peer has taken, and that came from it, as the kernel counts them.

        Of a tunnel that is over, at least what the last heartbeat saw.
        """
        seen = (self._acknowledged, max(self._seen_at_heartbeat[1], 0))
        if self._transport is None:
            return seen
        sock = self._transport.underlying_transport.get_extra_info("socket")
        taken, received = progress(sock) if sock is not None else (0, 0)
        return max(seen[0], taken), max(seen[1], received)

    def carry(self, session: Session) -> None:
        """Begin to carry a session, with the messages that came before."""
        self._session = session
        self._frame_type = WSMsgType.TEXT if session.is_text else WSMsgType.BINARY
        session.output_ready = self._pump
        if self._transport and session.is_text:  # v2 has each sender wait by itself
            self._respite = Respite(self._transport.underlying_transport, session)
            session.read_on = self._respite.end
        session.limit_messages(self._pace.size)
        self._hello_due = time.monotonic() + self._limits.handshake
        # The first ping goes before all else: behind it the session may send as much as the link
        # takes, and what a round trip is measured to be on a full link makes windows grow.
        self._heartbeat()
        session.attach()
        self._probe(0)
        early, self._early = self._early, []
        for payload in early:
            self._receive(payload)
        self._pump()

    def hang_up(self, error: StreamError, *, will_return: bool) -> None:
        """End the tunnel and tell the peer why. Idempotent."""
        if self._is_ended or self._transport is None:
            return
        self._send()
        code = cast(WSCloseCode, int(close_code_of(error)))
        self._transport.send_close(code, close_reason_of(error).encode())
        self._transport.disconnect()
        self._end(error, will_return=will_return)

    # -- from picows -----------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._keep_pace()
        self.connected()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._is_ended:
            return
        self._frames += 1
        message_type = frame.msg_type
        if message_type == WSMsgType.BINARY or message_type == WSMsgType.TEXT:
            payload = frame.get_payload_as_bytes()
            if frame.fin and not self._is_fragmented:
                self._receive(payload)
            else:
                self._receive_fragment(payload, is_last=frame.fin)
        elif message_type == WSMsgType.CONTINUATION:
            self._receive_fragment(frame.get_payload_as_bytes(), is_last=frame.fin)
        elif message_type == WSMsgType.PING:
            # Not left to picows, which would not let us see this sign of life: a stock edge that
            # is stuck in one channel answers no ping and goes on to send its own.
            # One that takes nothing gets no answers heaped up for it.
            if not self._is_full:
                transport.send_pong(frame.get_payload_as_bytes())
        elif message_type == WSMsgType.PONG:
            self._pong_received(frame.get_payload_as_bytes())
        elif message_type == WSMsgType.CLOSE:
            reason = frame.get_close_reason() or "no reason given"
            error, will_return = self.close_received(cast(int, frame.get_close_code()), reason)
            self.hang_up(error, will_return=will_return)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        closing = transport.close_handshake
        if closing and closing.sent:
            # picows gave the connection up: what came was no WebSocket frame, or a too large one.
            why = f"the peer broke the rules of WebSocket: {closing.sent.reason}"
            self._end(RemoteProtocolError(why), will_return=False)
        else:
            error, will_return = self.lost()
            self._end(error, will_return=will_return)

    def pause_writing(self) -> None:
        self._is_full = True
        self._full_since = time.monotonic()
        self._pace.filled(self._full_since)

    def resume_writing(self) -> None:
        self._is_full = False
        if self._pace.drained(time.monotonic()):
            self._keep_pace()
        self._send()

    # -- inside ------------------------------------------------------------------------------

    def _keep_pace(self) -> None:
        """Messages, the buffer, what the kernel holds unsent: as large as the link allows."""
        if self._transport:
            underlying, size = self._transport.underlying_transport, self._pace.size
            underlying.set_write_buffer_limits(high=size)
            bound_unsent(underlying.get_extra_info("socket"), size)
        if self._session:
            self._session.limit_messages(self._pace.size)

    def _receive(self, payload: bytes) -> None:
        if self._is_ended:
            return
        if self._session is None:
            self._early.append(payload)
            return
        try:
            self._session.message_received(payload)
            if self._respite and self._session.is_crowded:
                self._respite.message_read(len(payload))
        except StreamError as error:
            self.hang_up(error, will_return=False)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            name = type(error).__name__
            log.error("a message was not taken: %s at %s:%s", name, place.filename, place.lineno)
            self.hang_up(LocalProtocolError(f"internal error: {name}"), will_return=False)

    def _receive_fragment(self, payload: bytes, *, is_last: bool) -> None:
        self._fragments += payload
        self._is_fragmented = not is_last
        if len(self._fragments) > self._limits.max_message:
            self._fragments.clear()
            error = MessageTooLarge("the peer sent a message larger than allowed")
            self.hang_up(error, will_return=False)
        elif is_last:
            whole = bytes(self._fragments)
            self._fragments.clear()
            self._receive(whole)

    def _pump(self) -> None:
        # The first message leaves at once. What else comes up in the same turn of the event loop
        # leaves together at its end: one write for many channels.
        if not self._is_turn_over_due:
            self._send()

    def _turn_is_over(self) -> None:
        self._is_turn_over_due = False
        self._send()

    def _send(self) -> None:
        # A handler that is told to write on, while a message is taken, ends up here again.
        session, transport = self._session, self._transport
        if self._is_pumping or self._is_ended or session is None or transport is None:
            return
        self._is_pumping = True
        try:
            while not self._is_full and (message := session.next_message()) is not None:
                self._pace.sent(send_frame(transport, self._frame_type, message))
                if not self._is_turn_over_due:
                    self._is_turn_over_due = True
                    self._loop.call_soon(self._turn_is_over)
        finally:
            self._is_pumping = False

    def _heartbeat(self) -> None:
        session, transport = self._session, self._transport
        if self._is_ended or session is None or transport is None:
            return
        if error := self._fault(session, transport, time.monotonic()):
            transport.send_close(cast(WSCloseCode, int(close_code_of(error))))
            self._end(error, will_return=True)
            transport.disconnect(graceful=False)
            return
        self._ping()
        self._timer = self._loop.call_later(self._limits.heartbeat, self._heartbeat)

    def _probe(self, number: int) -> None:
        """The round trip of a link at rest decides how windows grow: one look is too few."""
        if number > 0:
            self._ping()
        self._probe_timer = None
        if number < len(_PROBES) and not self._is_ended:
            self._probe_timer = self._loop.call_later(_PROBES[number], self._probe, number + 1)

    def _ping(self) -> None:
        # Not by the loop's clock: that of uvloop stands still for a whole millisecond.
        if self._transport and not self._is_ended:
            self._transport.send_ping(_PING_TIME.pack(time.monotonic()))

    def _pong_received(self, payload: bytes) -> None:
        if self._session and len(payload) == _PING_TIME.size:
            (pinged_at,) = _PING_TIME.unpack(payload)
            seconds = time.monotonic() - pinged_at
            if seconds > 0:
                self.round_trip_measured(seconds)
                self._session.round_trip_measured(seconds)

    def _fault(
        self, session: Session, transport: WSTransport, now: float
    ) -> HeartbeatTimeout | None:
        """What the peer should have done by now, if it has not. Asked at every heartbeat."""
        limits = self._limits
        acknowledged, received = progress(transport.underlying_transport.get_extra_info("socket"))
        if (self._frames, received) == self._seen_at_heartbeat:
            self._silence += limits.heartbeat
        else:
            self._silence = 0.0
        if acknowledged != self._acknowledged:
            self._full_since = now
        self._seen_at_heartbeat = (self._frames, received)
        self._acknowledged = acknowledged
        if self._silence >= (limits.silence if self._frames else limits.first_sign):
            return HeartbeatTimeout(f"the peer was silent for {self._silence:g} s")
        if self._is_full and now - self._full_since >= limits.write:
            return HeartbeatTimeout(f"the peer took nothing for {limits.write:g} s")
        if not session.is_greeted and now >= self._hello_due:
            return HeartbeatTimeout(f"the peer said no hello within {limits.handshake:g} s")
        return None

    def _end(self, error: StreamError, *, will_return: bool) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        for timer in (self._timer, self._probe_timer):
            if timer:
                timer.cancel()
        if self._respite:
            self._respite.end()
        self._fragments.clear()
        self._early.clear()
        self.ended(error, will_return=will_return)
