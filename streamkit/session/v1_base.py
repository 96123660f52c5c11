"""What both sides' v1 sessions share: the channel table, the pump, the water marks."""

import logging
from abc import abstractmethod

from streamkit.errors import ChannelError, ChannelOverflow, ChannelReset, StreamError
from streamkit.session.channel import HIGH_WATER, LOW_WATER, Channel
from streamkit.session.session import Session
from streamkit.wire.events import Ended, Event, Received, WasReset
from streamkit.wire.exchange import RequestHead
from streamkit.wire.v1 import V1Mux

log = logging.getLogger(__name__)


class V1Channel(Channel):
    """The queue towards the peer, and what the peer's messages mean for this channel."""

    def __init__(self, channel_id: int, request: RequestHead, session: "V1Session") -> None:
        super().__init__(channel_id, request)
        self._session = session
        self.is_open = True

    def consumed(self, size: int) -> None:
        if self.is_open:
            self._session.mux.consumed(self.channel_id, size)

    def finish(self) -> bool:
        """Leave the channel table; whether this is the first time."""
        was_open, self.is_open = self.is_open, False
        if was_open:
            self._session.forget(self.channel_id)
        return was_open

    def fail(self, error: StreamError) -> None:
        """The channel is lost: the handler hears why, once."""
        if self.finish():
            self.handler.reset_received(error)

    @abstractmethod
    def data_received(self, data: bytes | memoryview) -> None:
        """The peer's data of this channel."""

    @abstractmethod
    def end_received(self) -> None:
        """The peer's RemoveConnect."""

    def _send(self, data: bytes | memoryview) -> None:
        self._session.mux.send_data(self.channel_id, data)
        self._session.output_ready()
        if not self.is_paused and self._session.mux.backlog(self.channel_id) > HIGH_WATER:
            self.is_paused = True
            self._session.paused.add(self)
            self.handler.pause_writing()

    def resume_if_drained(self) -> None:
        """Let the handler write on, once the queue is short again."""
        if self._session.mux.backlog(self.channel_id) <= LOW_WATER:
            self.is_paused = False
            self._session.paused.discard(self)
            self.handler.resume_writing()


class V1Session(Session):
    """All v1 channels of one tunnel. They end with it: v1 knows no resumption."""

    is_text = True

    def __init__(self, mux: V1Mux) -> None:
        super().__init__()
        self.mux = mux
        self.paused: set[V1Channel] = set()
        self._channels: dict[int, V1Channel] = {}
        self._error: StreamError | None = None

    @property
    def channel_count(self) -> int:
        return len(self._channels)

    def attach(self) -> None:
        self.output_ready()

    def detach(self) -> None:
        """Nothing can be kept for another tunnel: the owner closes the session."""

    def limit_messages(self, size: int) -> None:
        """v1's messages are small enough for any link."""

    def round_trip_measured(self, seconds: float) -> None:
        """v1 has no window that could grow with the link."""

    def next_message(self) -> bytes | None:
        message = self.mux.next_message()
        for channel in tuple(self.paused):
            channel.resume_if_drained()
        return message

    def close(self, error: StreamError) -> None:
        if self._error is None:
            self._error = error
            for channel in tuple(self._channels.values()):
                channel.fail(error)

    def forget(self, channel_id: int) -> None:
        """A channel leaves the table."""
        channel = self._channels.pop(channel_id, None)
        if channel is not None:
            self.paused.discard(channel)

    def _handle(self, event: Event) -> None:
        """Pass one event of a channel on. Events of channels that are gone are void."""
        match event:
            case Received(channel_id, data):
                if channel := self._channels.get(channel_id):
                    channel.data_received(data)
            case Ended(channel_id):
                if channel := self._channels.get(channel_id):
                    channel.end_received()
            case WasReset(channel_id, code, sentence):
                if channel := self._channels.get(channel_id):
                    channel.fail(_reset_error(code, sentence))
            case _:
                log.warning("a peer sent an event that has no place here: %s", type(event).__name__)


def _reset_error(code: str, sentence: str) -> ChannelError:
    return ChannelOverflow(sentence) if code == ChannelOverflow.code else ChannelReset(sentence)
