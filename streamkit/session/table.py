"""What the sessions of both versions share: the channel table, the pump, the water marks."""

import contextlib
import logging
import traceback
from abc import abstractmethod
from typing import Any, Generic, Protocol, TypeVar

from streamkit.errors import LocalProtocolError, StreamError
from streamkit.session.channel import HIGH_WATER, LOW_WATER, Channel
from streamkit.session.session import Session
from streamkit.wire.events import Event
from streamkit.wire.exchange import RequestHead
from streamkit.wire.message import Pieces


class Mux(Protocol):
    """What a table asks of either version's sans-I/O state."""

    def next_message(self) -> Pieces | None:
        """The next message to send, or None."""

    def send_data(self, channel_id: int, data: bytes | memoryview) -> None:
        """Queue bytes of a channel."""

    def backlog(self, channel_id: int) -> int:
        """The bytes that a channel has queued and not sent."""


log = logging.getLogger(__name__)

M = TypeVar("M", bound=Mux)
C = TypeVar("C", bound="TableChannel[Any]")
S = TypeVar("S", bound="TableSession[Any, Any]")


class TableChannel(Channel, Generic[S]):
    """A channel that stands in its session's table until it is over."""

    def __init__(self, channel_id: int, request: RequestHead, session: S) -> None:
        super().__init__(channel_id, request)
        self._session = session
        self.is_open = True

    def write(self, data: bytes | memoryview) -> None:
        if not self.is_open:
            return
        session = self._session
        session.mux.send_data(self.channel_id, data)
        session.output_ready()
        if not self.is_paused and session.mux.backlog(self.channel_id) > HIGH_WATER:
            self.is_paused = True
            session.paused.add(self)
            self.handler.pause_writing()

    def resume_if_drained(self) -> None:
        """Let the handler write on, once the queue is short again."""
        if self._session.mux.backlog(self.channel_id) <= LOW_WATER:
            self.is_paused = False
            self._session.paused.discard(self)
            self.handler.resume_writing()

    def finish(self) -> bool:
        """Leave the channel table; whether this is the first time."""
        was_open, self.is_open = self.is_open, False
        if was_open:
            self._session.forget(self)
        return was_open

    def fail(self, error: StreamError) -> None:
        """The channel is lost: the handler hears why, once."""
        if self.finish():
            self.handler.reset_received(error)


class TableSession(Session, Generic[M, C]):
    """A session over a mux ``M`` with channels ``C``."""

    def __init__(self, mux: M) -> None:
        super().__init__()
        self.mux = mux
        self.paused: set[C] = set()
        self._channels: dict[int, C] = {}
        self._error: StreamError | None = None

    @property
    def channel_count(self) -> int:
        return len(self._channels)

    def next_message(self) -> Pieces | None:
        message = self.mux.next_message()
        if self.paused:
            for channel in tuple(self.paused):
                channel.resume_if_drained()
        return message

    def close(self, error: StreamError) -> None:
        if self._error is None:
            self._error = error
            for channel in tuple(self._channels.values()):
                channel.fail(error)

    def forget(self, channel: C) -> None:
        """A channel leaves the table."""
        if self._channels.get(channel.channel_id) is channel:
            del self._channels[channel.channel_id]
            self.paused.discard(channel)

    def _take(self, event: Event) -> None:
        """Pass one event on. A handler's bug costs its own channel, not the tunnel of all."""
        try:
            self._handle(event)
        except Exception as error:
            self._handler_failed(event, error)

    def _handler_failed(self, event: Event, error: Exception) -> None:
        place, name = traceback.extract_tb(error.__traceback__)[-1], type(error).__name__
        log.error("a handler failed: %s at %s:%s", name, place.filename, place.lineno)
        if channel := self._channels.get(getattr(event, "channel_id", 0)):
            fault = LocalProtocolError(f"internal error: {name}")
            channel.reset(fault)
            with contextlib.suppress(Exception):
                channel.handler.reset_received(fault)

    @abstractmethod
    def _handle(self, event: Event) -> None:
        """Pass one event of a channel on. Events of channels that are gone are void."""
