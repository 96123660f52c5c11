"""v2, the negotiated protocol: channels with windows that survive a lost tunnel.

A ``V2Mux`` is a session's state on one side. It is attached to one tunnel at a time; between
tunnels it keeps what the peer has not acknowledged. Each tunnel begins with a HELLO from the edge
and one back from the cloud; both then know what the other has received, which channels still live,
and send the rest. ``streamkit.wire.v2_sides`` has what only one side does.

The clock is an argument; there is no socket, and nothing here waits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from streamkit.errors import RemoteProtocolError, TunnelClosed
from streamkit.wire.events import Drained, Ended, Event, Received, WasReset
from streamkit.wire.message import Message, Pieces, decode_header
from streamkit.wire.v2_message import (
    SESSION,
    Hello,
    V2Type,
    decode_batch,
    decode_hello,
    decode_reason,
    decode_window,
    encode_hello,
    encode_reason,
    encode_reset,
    encode_window,
    message,
)
from streamkit.wire.v2_stream import ReceiveStream, SendStream
from streamkit.wire.v2_turns import Directions, Turns

MESSAGE_SIZE = 64 * 1024
"""Data bytes per message, unless the tunnel's driver knows better."""

_TURNS = 0.001
"""Seconds. On a faster link it is both sides' turns that take time, and full speed wants windows
that span them."""
_SHARED_TURNS = 0.4 * _TURNS
"""Seconds. Other channels would wait behind all that such windows let through."""

_DATA = int(V2Type.DATA)
_OF_THE_SESSION = frozenset((V2Type.HELLO, V2Type.DRAIN, V2Type.BATCH))


@dataclass(frozen=True, slots=True)
class V2Settings:
    """Windows in bytes, the time in seconds for which a session outlives its tunnel."""

    window: int = 128 * 1024
    max_window: int = 4 * 1024 * 1024
    resume_timeout: float = 30.0


class V2Mux(ABC):
    """What both sides share: channels, windows, the order of sending, taking messages."""

    takes: ClassVar[frozenset[V2Type]]
    """The types that this side's peer may send."""

    def __init__(self, settings: V2Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._channels: dict[int, Directions] = {}
        self._turns = Turns(MESSAGE_SIZE)
        self._greeting = b""
        self._peer_window = 0
        self.is_greeted = False
        """Whether this tunnel's greeting is done."""
        self.session = ""
        """The session's name; empty on an edge that has not been greeted yet."""
        self.peer_resume_timeout = 0.0
        """Seconds for which the peer keeps the session between tunnels; 0 before its first HELLO,
        when it can't know the session."""
        self.rtt = 0.0
        """The round trip as last measured, in seconds."""
        self.stray_messages = 0
        """Messages of channels that do not live here: what crosses a reset, or nonsense."""

    # -- the tunnel --------------------------------------------------------------------------

    def attach(self) -> None:
        """A new tunnel begins: nothing but a HELLO is sent or taken until the greeting is done."""
        self.detach()

    def detach(self) -> None:
        """The tunnel is gone: what was to be sent waits for the next."""
        self._turns.clear_control()
        self._greeting = b""
        self.is_greeted = False

    def limit_messages(self, size: int) -> None:
        """From now on one message carries no more data bytes than that."""
        self._turns.message_size = size

    def send_drain(self, sentence: str) -> None:
        """Tell the peer that this session will get no more channels; what runs goes on.

        A cloud asks the edge to dial again soon; an edge says that it has.
        """
        if self.is_greeted:
            self._turns.send(message(SESSION, V2Type.DRAIN, sentence.encode()))

    def next_message(self) -> Pieces | None:
        """The next message to send, or None. Control first, then data round-robin."""
        if self._greeting:
            greeting, self._greeting = self._greeting, b""
            return (greeting,)
        return self._turns.next_message() if self.is_greeted else None

    @property
    def has_output(self) -> bool:
        """Whether ``next_message`` may have something."""
        return bool(self._turns) or bool(self._greeting)

    def receive(self, payload: bytes) -> list[Event]:
        """Take one message. Raises RemoteProtocolError: tunnel and session must then be ended."""
        channel_id, message_type, position = decode_header(payload)
        # Data first: it is by far the most frequent.
        if message_type == _DATA and self.is_greeted and channel_id in self._channels:
            data = memoryview(payload)[position:]
            return self._receive_data(channel_id, self._channels[channel_id], data)
        return self._receive_other(Message(channel_id, message_type, payload[position:]))

    def _receive_other(self, found: Message) -> list[Event]:
        if found.type not in self.takes:
            raise RemoteProtocolError(f"a message of type {found.type} has no place here")
        if (found.channel_id == SESSION) is not (found.type in _OF_THE_SESSION):
            raise RemoteProtocolError("a message is about a channel or about the session, not both")
        if self.is_greeted is (found.type == V2Type.HELLO):
            raise RemoteProtocolError(
                "a second hello came" if self.is_greeted else "a message came before the hello"
            )
        match found.type:
            case V2Type.HELLO:
                return self._receive_hello(decode_hello(found.data))
            case V2Type.DRAIN:
                return [Drained(bytes(found.data[:200]).decode(errors="replace"))]
            case V2Type.BATCH:
                return [event for part in decode_batch(found.data) for event in self.receive(part)]
            case V2Type.OPEN | V2Type.HEAD:
                return self._receive_opening(found.channel_id, found.data)
        channel = self._channels.get(found.channel_id)
        if channel is None:
            return self._stray()
        return self._receive(found.channel_id, channel, found.type, found.data)

    # -- channels ----------------------------------------------------------------------------

    @property
    def channel_ids(self) -> Iterator[int]:
        """The channels that live."""
        return iter(tuple(self._channels))

    def send_data(self, channel_id: int, data: bytes | memoryview) -> None:
        """Queue bytes; void for a channel that is gone or ended.

        Raises LocalProtocolError before the channel's opening.
        """
        if channel := self._channels.get(channel_id):
            channel.sending.append(data)
            self._turns.release(channel)

    def send_end(self, channel_id: int) -> None:
        """Let an end follow what is queued. Raises LocalProtocolError before the opening."""
        if channel := self._channels.get(channel_id):
            channel.sending.end()
            self._turns.release(channel)

    def send_failure(self, channel_id: int, code: str, sentence: str) -> None:
        """Break the channel off behind what is queued, which is still delivered.

        What the peer sends has no reader any more. An end that has been queued stays the truth.
        """
        channel = self._channels.get(channel_id)
        if channel and channel.sending.opening is not None:
            channel.sending.end(encode_reason(code, sentence))
            self._turns.release(channel)
            self.abandon(channel_id)
        else:
            self.send_reset(channel_id, code, sentence)

    def send_reset(self, channel_id: int, code: str, sentence: str) -> None:
        """End the channel in both directions now; what is queued is dropped."""
        if channel := self._channels.get(channel_id):
            is_known_there = channel.sending.sent or channel.receiving.received
            self._forget(channel_id)
            if self.is_greeted and is_known_there:
                self._turns.send(encode_reset(channel_id, code, sentence))

    def consumed(self, channel_id: int, size: int) -> bool:
        """The application took that many bytes of the channel; whether the peer is to hear of it.

        Raises LocalProtocolError for more bytes than came.
        """
        channel = self._channels.get(channel_id)
        if channel is None or channel.receiving.is_abandoned:
            return False
        return self._consume(channel_id, channel, size)

    def abandon(self, channel_id: int) -> None:
        """Nobody reads the channel any more: what came, and what still comes, is dropped.

        The peer is told as if it were consumed, so that neither side keeps it.
        """
        channel = self._channels.get(channel_id)
        if channel and not channel.receiving.is_abandoned:
            channel.receiving.is_abandoned = True
            self._consume(channel_id, channel, channel.receiving.unconsumed)

    def backlog(self, channel_id: int) -> int:
        """Bytes queued for the channel and not yet handed out by ``next_message``."""
        channel = self._channels.get(channel_id)
        return channel.sending.backlog if channel else 0

    # -- inside ------------------------------------------------------------------------------

    @abstractmethod
    def _greet(self, hello: Hello) -> list[Event]:
        """Take the peer's HELLO; call ``_resume`` once both views are one."""

    @abstractmethod
    def _receive_opening(self, channel_id: int, data: bytes | memoryview) -> list[Event]:
        """Take the one opening that this side's peer may send: an OPEN, or a HEAD."""

    def _receive_hello(self, hello: Hello) -> list[Event]:
        self._peer_window = hello.window
        self.peer_resume_timeout = hello.resume_timeout
        return self._greet(hello)

    def _receive(
        self, channel_id: int, channel: Directions, message_type: int, data: bytes | memoryview
    ) -> list[Event]:
        match message_type:
            case V2Type.DATA:
                return self._receive_data(channel_id, channel, data)
            case V2Type.WINDOW:
                channel.sending.acknowledge(*decode_window(data))
                self._turns.release(channel)
                self._forget_if_done(channel_id, channel)
                return []
            case V2Type.END:
                return self._receive_end(channel_id, channel, data)
            case _:
                reason = decode_reason(data)
                self._forget(channel_id)
                return [WasReset(channel_id, *reason)]

    def _stray(self) -> list[Event]:
        # The channel's reset, or its last acknowledgement, may still be on the way to the peer.
        self.stray_messages += 1
        return []

    def _receive_data(
        self, channel_id: int, channel: Directions, data: bytes | memoryview
    ) -> list[Event]:
        channel.receiving.receive_data(len(data))
        if channel.receiving.is_abandoned:
            self._consume(channel_id, channel, len(data))
            return []
        return [Received(channel_id, data)] if data else []

    def _receive_end(
        self, channel_id: int, channel: Directions, data: bytes | memoryview
    ) -> list[Event]:
        reason = decode_reason(data) if data else None
        channel.receiving.receive_end()
        if reason:
            self.send_reset(channel_id, *reason)
            return [WasReset(channel_id, *reason)]
        if channel.receiving.is_settled:
            self._announce(channel_id, channel)
        return [Ended(channel_id)]

    def _consume(self, channel_id: int, channel: Directions, size: int) -> bool:
        if not channel.receiving.consume(size):
            return False
        channel.receiving.fit(self._clock(), self._trip(), self._settings.max_window)
        self._announce(channel_id, channel)
        return True

    def _trip(self) -> float:
        """What a window has to span, in seconds; 0 while the round trip is not known."""
        if not 0 < self.rtt < _TURNS:
            return self.rtt
        return _TURNS if len(self._channels) == 1 else _SHARED_TURNS

    def _reconcile(self, hello: Hello, *, is_lost_open: Callable[[int], bool]) -> list[Event]:
        """Both sides' view of the living channels, made one."""
        events: list[Event] = []
        for channel_id, channel in tuple(self._channels.items()):
            position = hello.received.get(channel_id)
            if position is None and is_lost_open(channel_id):
                position = 0
            if position is None:
                sentence = "the peer gave the request up while the tunnel was away"
                events += self._lose(channel_id, sentence)
            else:
                channel.sending.grant(hello.window)
                channel.sending.rewind(position)
        return events

    def _lose(self, channel_id: int, sentence: str) -> list[Event]:
        """Forget a channel that the peer does not have; an event unless it had ended anyway."""
        had_ended = self._channels[channel_id].is_ended
        self._forget(channel_id)
        return [] if had_ended else [WasReset(channel_id, TunnelClosed.code, sentence)]

    def _resume(self, hello: Hello) -> None:
        """The greeting is done: tell the windows, then every channel takes its turn again."""
        self.is_greeted = True
        self._turns.clear_row()
        for channel_id in sorted(self._channels):
            channel = self._channels[channel_id]
            if channel_id in hello.received:
                self._announce(channel_id, channel)
            self._turns.release(channel)

    def _hello(self, *, opened: int = 0) -> bytes:
        received = {key: channel.receiving.received for key, channel in self._channels.items()}
        settings = self._settings
        return encode_hello(
            Hello(self.session, settings.window, settings.resume_timeout, opened, received)
        )

    def _add(self, channel_id: int) -> Directions:
        settings = self._settings
        sending = SendStream(window=self._peer_window, most_held=settings.max_window)
        channel = Directions(channel_id, sending, ReceiveStream(settings.window))
        self._channels[channel_id] = channel
        return channel

    def _announce(self, channel_id: int, channel: Directions) -> None:
        if self.is_greeted and channel.receiving.received:
            self._turns.send(encode_window(channel_id, *channel.receiving.announce()))
        self._forget_if_done(channel_id, channel)

    def _forget_if_done(self, channel_id: int, channel: Directions) -> None:
        if channel.is_done:
            self._forget(channel_id)

    def _forget(self, channel_id: int) -> None:
        if channel := self._channels.pop(channel_id, None):
            channel.sending.clear()
            self._turns.withdraw(channel)
