"""v2 sessions: channels that survive a lost tunnel."""

import logging
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from streamkit.errors import LocalProtocolError, StreamError, error_of
from streamkit.session.channel import Channel, ChannelHandler
from streamkit.session.session import ChannelAcceptor, CloudSession
from streamkit.session.table import TableChannel, TableSession
from streamkit.wire.events import Drained, Ended, Event, Headed, Opened, Received, WasReset
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.v2 import V2Mux, V2Settings
from streamkit.wire.v2_sides import V2Cloud, V2Edge

log = logging.getLogger(__name__)


M = TypeVar("M", bound=V2Mux)


class V2Channel(TableChannel["V2Session[Any]"]):
    """One channel of a v2 session."""

    def __init__(self, channel_id: int, request: RequestHead, session: "V2Session[Any]") -> None:
        super().__init__(channel_id, request, session)
        self._session_name = session.mux.session
        self._is_ended_here = False
        self._is_ended_there = False

    def send_head(self, head: ResponseHead) -> None:
        if self.is_open:
            self._session.send_head(self.channel_id, head)

    def end(self) -> None:
        if self.is_open:
            self._session.mux.send_end(self.channel_id)
            self._session.output_ready()
            self._is_ended_here = True
            self._finish_if_ended()

    def end_received(self) -> None:
        """The peer's direction is complete."""
        self.handler.end_received()
        self._is_ended_there = True
        self._finish_if_ended()

    def _finish_if_ended(self) -> None:
        # The mux keeps what the peer has not acknowledged; the application has nothing left to do.
        if self._is_ended_here and self._is_ended_there:
            self.finish()

    def reset(self, error: StreamError) -> None:
        if self.finish():
            self._session.break_off(self.channel_id, error)
        elif self._has_its_id:
            # Both directions have ended, but what the handler has not consumed is still held.
            self._session.mux.abandon(self.channel_id)
        self._session.output_ready()

    def consumed(self, size: int) -> None:
        session = self._session
        if not self._has_its_id:
            return
        if session.mux.consumed(self.channel_id, size):
            session.output_ready()

    @property
    def _has_its_id(self) -> bool:
        # A cloud that begins anew counts its ids anew: ours may be another channel's by now.
        return bool(self._session_name == self._session.mux.session)


class V2Session(TableSession[M, V2Channel], Generic[M]):
    """What both sides share. Between tunnels the channels wait, up to ``resume_timeout``."""

    is_text = False
    can_resume = True
    carries_pod_facts = True

    @property
    def is_greeted(self) -> bool:
        return self.mux.is_greeted

    @property
    def peer_resume_timeout(self) -> float:
        return self.mux.peer_resume_timeout

    def attach(self) -> None:
        self.mux.attach()
        self.mux.rtt = 0.0
        self.output_ready()

    def detach(self) -> None:
        self.mux.detach()

    def limit_messages(self, size: int) -> None:
        self.mux.limit_messages(size)

    def round_trip_measured(self, seconds: float) -> None:
        # The least of a tunnel's life: what a busy link adds is queueing, which a larger window
        # would only make longer.
        self.mux.rtt = min(seconds, self.mux.rtt or seconds)

    def message_received(self, payload: bytes) -> None:
        for event in self.mux.receive(payload):
            self._take(event)
        if self.mux.has_output:
            self.output_ready()

    def drain(self, sentence: str) -> None:
        """Ask an edge to dial again soon, or tell a cloud so; what runs goes on."""
        self.mux.send_drain(sentence)
        self.output_ready()

    def send_head(self, channel_id: int, head: ResponseHead) -> None:
        """Send an answer's head, where this side answers."""
        raise LocalProtocolError("the cloud sends no head")

    def break_off(self, channel_id: int, error: StreamError) -> None:
        """Tell the peer that the channel is over."""
        self.mux.send_reset(channel_id, error.code, str(error))

    def _handle(self, event: Event) -> None:
        if type(event) is Received:  # before all others: it is by far the most frequent
            if channel := self._channels.get(event.channel_id):
                channel.handler.data_received(event.data)
            return
        match event:
            case Headed(channel_id, head):
                if channel := self._channels.get(channel_id):
                    channel.handler.head_received(head)
            case Ended(channel_id):
                if channel := self._channels.get(channel_id):
                    channel.end_received()
            case WasReset(channel_id, code, sentence):
                if channel := self._channels.get(channel_id):
                    channel.fail(error_of(code, sentence))
            case Drained(sentence):
                self.drained(sentence)
            case _:
                log.warning("a peer sent an event that has no place here: %s", type(event).__name__)


class V2CloudSession(V2Session[V2Cloud], CloudSession):
    """Opens channels towards our own edge."""

    def __init__(
        self, token: str, settings: V2Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(V2Cloud(token, settings, clock))
        self.token = token

    def open(self, request: RequestHead, handler: ChannelHandler, body: bytes = b"") -> Channel:
        if self._error is not None:
            raise self._error
        channel = V2Channel(self.mux.open(request), request, self)
        channel.handler = handler
        self._channels[channel.channel_id] = channel
        self.output_ready()
        if body:
            channel.write(body)
        if not request.is_upgrade:
            channel.end()
        return channel


class V2EdgeSession(V2Session[V2Edge]):
    """Hands each channel that the cloud opens to the acceptor."""

    def __init__(
        self,
        acceptor: ChannelAcceptor,
        settings: V2Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(V2Edge(settings, clock))
        self._acceptor = acceptor

    @property
    def token(self) -> str:
        """The session's name, as the cloud gave it; empty before the first greeting."""
        return self.mux.session

    def send_head(self, channel_id: int, head: ResponseHead) -> None:
        self.mux.send_head(channel_id, head)
        self.output_ready()

    def break_off(self, channel_id: int, error: StreamError) -> None:
        # What has been written is the truth so far: it arrives before the failure.
        self.mux.send_failure(channel_id, error.code, str(error))

    def _handle(self, event: Event) -> None:
        if isinstance(event, Opened):
            channel = V2Channel(event.channel_id, event.request, self)
            self._channels[event.channel_id] = channel
            channel.handler = self._acceptor(channel)
        else:
            super()._handle(event)
