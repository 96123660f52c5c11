"""What both sides' v1 sessions share: how a channel's raw messages are taken."""

import logging
from abc import abstractmethod
from typing import Any, Generic, TypeVar

from streamkit.errors import ChannelError, ChannelOverflow, ChannelReset
from streamkit.session.table import TableChannel, TableSession
from streamkit.wire.events import Ended, Event, Received, WasReset
from streamkit.wire.v1 import V1Mux

log = logging.getLogger(__name__)

M = TypeVar("M", bound=V1Mux)
S = TypeVar("S", bound="V1Session[Any]")


class V1Channel(TableChannel[S]):
    """The queue towards the peer, and what the peer's messages mean for this channel."""

    def consumed(self, size: int) -> None:
        if self.is_open:
            self._session.consumed(self.channel_id, size)

    @abstractmethod
    def data_received(self, data: bytes | memoryview) -> None:
        """The peer's data of this channel."""

    @abstractmethod
    def end_received(self) -> None:
        """The peer's RemoveConnect."""


class V1Session(TableSession[M, V1Channel[Any]], Generic[M]):
    """All v1 channels of one tunnel. They end with it: v1 knows no resumption."""

    is_text = True

    @property
    def is_crowded(self) -> bool:
        return self.mux.is_crowded

    def consumed(self, channel_id: int, size: int) -> None:
        """A channel's handler has passed on that much."""
        was_crowded = self.mux.is_crowded
        self.mux.consumed(channel_id, size)
        if was_crowded and not self.mux.is_crowded:
            self.read_on()

    def attach(self) -> None:
        self.output_ready()

    def detach(self) -> None:
        """Nothing can be kept for another tunnel: the owner closes the session."""

    def limit_messages(self, size: int) -> None:
        """v1's messages are small enough for any link."""

    def round_trip_measured(self, seconds: float) -> None:
        """v1 has no window that could grow with the link."""

    def message_received(self, payload: bytes) -> None:
        for event in self.mux.receive(payload):
            self._take(event)
        self.output_ready()

    def _handle(self, event: Event) -> None:
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
