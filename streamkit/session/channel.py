"""A channel as both applications see it: one HTTP exchange in a session."""

from abc import ABC, abstractmethod
from typing import Protocol

from streamkit.errors import StreamError
from streamkit.wire.exchange import RequestHead, ResponseHead

HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024


class ChannelHandler(Protocol):
    """The application's end of a channel. Called in this order; nothing follows a reset.

    ``head_received`` once (cloud only), ``data_received`` any number of times, ``end_received``
    once. Whoever gets data reports it ``consumed`` when it has passed it on. None of them raises.
    """

    def head_received(self, head: ResponseHead) -> None:
        """The edge decided. 101 means raw bytes both ways."""

    def data_received(self, data: bytes | memoryview) -> None:
        """The peer's next bytes; the view is valid for as long as it is referenced."""

    def end_received(self) -> None:
        """The peer's direction is complete."""

    def reset_received(self, error: StreamError) -> None:
        """The channel is gone, in both directions."""

    def pause_writing(self) -> None:
        """The channel has more than HIGH_WATER bytes queued."""

    def resume_writing(self) -> None:
        """The queue is down to LOW_WATER bytes."""


class Channel(ABC):
    """The session's end of a channel. Every method may be called any time; late calls are void."""

    handler: ChannelHandler

    def __init__(self, channel_id: int, request: RequestHead) -> None:
        self.channel_id = channel_id
        self.request = request
        self.is_paused = False

    @abstractmethod
    def send_head(self, head: ResponseHead) -> None:
        """Send status and headers (edge only)."""

    @abstractmethod
    def write(self, data: bytes | memoryview) -> None:
        """Queue bytes for the peer. May call ``pause_writing`` before it returns."""

    @abstractmethod
    def end(self) -> None:
        """Half-close: the last byte has been written."""

    @abstractmethod
    def reset(self, error: StreamError) -> None:
        """End the channel in both directions, now. The own handler hears nothing of it.

        What an edge has written still arrives, and an end that it has queued stays the end. What
        has come and is not consumed need not be any more.
        """

    @abstractmethod
    def consumed(self, size: int) -> None:
        """The handler has passed on that many of the bytes that it got."""
