"""v2, the negotiated protocol: channels with windows that survive a lost tunnel. Both sides.

A ``V2Mux`` is a session's state. It is attached to one tunnel at a time; between tunnels it keeps
what the peer has not acknowledged. Each tunnel begins with a HELLO from the edge and one back from
the cloud; both then know what the other has received, which channels still live, and send the rest.

The clock is an argument; there is no socket, and nothing here waits.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from streamkit.errors import LocalProtocolError, RemoteProtocolError, TunnelClosed
from streamkit.wire.events import Drained, Ended, Event, Headed, Opened, Received, WasReset
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import decode_message
from streamkit.wire.v2_message import (
    SESSION,
    Hello,
    V2Type,
    decode_head,
    decode_hello,
    decode_open,
    decode_reason,
    decode_window,
    encode_head,
    encode_hello,
    encode_open,
    encode_reason,
    encode_reset,
    encode_window,
    message,
)
from streamkit.wire.v2_stream import OPENING_UNITS, ReceiveStream, SendStream

SLICE = 64 * 1024
"""Data bytes per message."""


@dataclass(frozen=True, slots=True)
class V2Settings:
    """Windows in bytes, the time in seconds for which a session outlives its tunnel."""

    window: int = 512 * 1024
    max_window: int = 4 * 1024 * 1024
    resume_timeout: float = 30.0


class _Channel:
    """Both directions of one channel."""

    __slots__ = ("receiving", "sending")

    def __init__(self, window: int, limit: int) -> None:
        self.sending = SendStream()
        self.sending.limit = limit
        self.receiving = ReceiveStream(window)

    @property
    def is_done(self) -> bool:
        """Whether neither side can need the channel any more."""
        received = self.receiving
        return (
            received.is_ended
            and received.consumed == received.received
            and (self.sending.is_settled)
        )

    @property
    def is_ended(self) -> bool:
        """Whether both directions have their end, acknowledged or not."""
        return self.receiving.is_ended and self.sending.is_ended


class V2Mux:
    """What both sides share: channels, windows, the order of sending, taking messages."""

    def __init__(self, settings: V2Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._channels: dict[int, _Channel] = {}
        self._control: deque[bytes] = deque()
        self._ready: deque[int] = deque()
        self._waiting: set[int] = set()
        self._peer_window = 0
        self._is_greeted = False
        self.session = ""
        self.peer_resume_timeout = 0.0
        self.rtt = 0.0
        self.stray_messages = 0

    # -- the tunnel --------------------------------------------------------------------------

    def attach(self) -> None:
        """A new tunnel begins: nothing but a HELLO is sent or taken until the greeting is done."""
        self._control.clear()
        self._is_greeted = False

    def detach(self) -> None:
        """The tunnel is gone: what was to be sent waits for the next."""
        self._control.clear()
        self._is_greeted = False

    def next_message(self) -> bytes | None:
        """The next message to send, or None. Control first, then data round-robin."""
        if self._control:
            return self._control.popleft()
        if not self._is_greeted:
            return None
        while self._ready:
            channel_id = self._ready.popleft()
            if channel_id not in self._waiting:
                continue
            self._waiting.discard(channel_id)
            sending = self._channels[channel_id].sending
            if sending.has_turn:
                found = _next_of(channel_id, sending)
                self._release(channel_id)
                return found
        return None

    def receive(self, payload: bytes) -> list[Event]:
        """Take one message. Raises RemoteProtocolError: the tunnel must then be closed."""
        found = decode_message(payload)
        if found.channel_id == SESSION:
            return self._receive_session(found.type, found.data)
        if not self._is_greeted:
            raise RemoteProtocolError("a message came before the hello")
        if found.type == V2Type.OPEN:
            return self._receive_open(found.channel_id, found.data)
        channel = self._channels.get(found.channel_id)
        if channel is None:
            # Its reset, or its last acknowledgement, is still on the way to the peer.
            self.stray_messages += 1
            return []
        return self._receive(found.channel_id, channel, found.type, found.data)

    # -- channels ----------------------------------------------------------------------------

    @property
    def channel_ids(self) -> Iterator[int]:
        """The channels that live."""
        return iter(tuple(self._channels))

    def send_data(self, channel_id: int, data: bytes | memoryview) -> None:
        """Queue bytes; void for a channel that is gone or ended."""
        channel = self._channels.get(channel_id)
        if channel and not channel.sending.is_ended:
            if channel.sending.opening is None:
                raise LocalProtocolError("data goes behind a channel's opening")
            channel.sending.append(data)
            self._release(channel_id)

    def send_end(self, channel_id: int) -> None:
        """Let an end follow what is queued."""
        if channel := self._channels.get(channel_id):
            channel.sending.end()
            self._release(channel_id)

    def send_failure(self, channel_id: int, code: str, sentence: str) -> None:
        """Break the channel off behind what is queued, which is still delivered."""
        channel = self._channels.get(channel_id)
        if channel and channel.sending.opening is not None:
            channel.sending.end(encode_reason(code, sentence))
            self._release(channel_id)
        else:
            self.send_reset(channel_id, code, sentence)

    def send_reset(self, channel_id: int, code: str, sentence: str) -> None:
        """End the channel in both directions now; what is queued is dropped."""
        if channel_id in self._channels:
            self._forget(channel_id)
            if self._is_greeted:
                self._control.append(encode_reset(channel_id, code, sentence))

    def consumed(self, channel_id: int, size: int) -> None:
        """The application took that many bytes of the channel."""
        if channel := self._channels.get(channel_id):
            settings = self._settings
            if channel.receiving.consume(
                size, now=self._clock(), rtt=self.rtt, max_window=settings.max_window
            ):
                self._announce(channel_id, channel)

    def backlog(self, channel_id: int) -> int:
        """Bytes queued for the channel and not yet handed out by ``next_message``."""
        channel = self._channels.get(channel_id)
        return channel.sending.backlog if channel else 0

    # -- inside ------------------------------------------------------------------------------

    def _receive_session(self, message_type: int, data: bytes | memoryview) -> list[Event]:
        if message_type == V2Type.HELLO and not self._is_greeted:
            hello = decode_hello(data)
            self._peer_window = hello.window
            self.peer_resume_timeout = hello.resume_timeout
            return self._greet(hello)
        if message_type == V2Type.DRAIN:
            return [Drained(bytes(data[:200]).decode(errors="replace"))]
        raise RemoteProtocolError("a message about the session has no place here")

    def _greet(self, hello: Hello) -> list[Event]:
        raise RemoteProtocolError("a session takes a side")

    def _receive_open(self, channel_id: int, data: bytes | memoryview) -> list[Event]:
        raise RemoteProtocolError("the peer may not open channels")

    def _receive(
        self, channel_id: int, channel: _Channel, message_type: int, data: bytes | memoryview
    ) -> list[Event]:
        match message_type:
            case V2Type.DATA:
                channel.receiving.receive_data(len(data))
                return [Received(channel_id, data)]
            case V2Type.WINDOW:
                channel.sending.acknowledge(*decode_window(data))
                self._release(channel_id)
                self._forget_if_done(channel_id, channel)
                return []
            case V2Type.HEAD:
                return self._receive_head(channel_id, channel, data)
            case V2Type.END:
                channel.receiving.receive_end()
                if data:
                    code, sentence = decode_reason(data)
                    self.send_reset(channel_id, code, sentence)
                    return [WasReset(channel_id, code, sentence)]
                if channel.receiving.consumed == channel.receiving.received:
                    self._announce(channel_id, channel)
                return [Ended(channel_id)]
            case V2Type.RESET:
                self._forget(channel_id)
                return [WasReset(channel_id, *decode_reason(data))]
            case _:
                raise RemoteProtocolError(f"a message of unknown type {message_type} came")

    def _receive_head(
        self, channel_id: int, channel: _Channel, data: bytes | memoryview
    ) -> list[Event]:
        raise RemoteProtocolError("the peer may not send heads")

    def _reconcile(self, hello: Hello, *, is_lost_open: Callable[[int], bool]) -> list[Event]:
        """Both sides' view of the living channels, made one."""
        events: list[Event] = []
        for channel_id, channel in tuple(self._channels.items()):
            position = hello.received.get(channel_id)
            if position is None and is_lost_open(channel_id):
                position = 0
            if position is None:
                self._forget(channel_id)
                if not channel.is_ended:
                    sentence = "the peer gave the request up while the tunnel was away"
                    events.append(WasReset(channel_id, TunnelClosed.code, sentence))
                continue
            channel.sending.limit = max(channel.sending.limit, OPENING_UNITS + hello.window)
            channel.sending.rewind(position)
        return events

    def _resume(self, hello: Hello) -> None:
        """The greeting is done: tell the windows, then every channel takes its turn again."""
        self._is_greeted = True
        self._ready.clear()
        self._waiting.clear()
        for channel_id in sorted(self._channels):
            channel = self._channels[channel_id]
            if channel_id in hello.received:
                self._announce(channel_id, channel)
            self._release(channel_id)

    def _hello(self, *, opened: int = 0) -> bytes:
        received = {key: channel.receiving.received for key, channel in self._channels.items()}
        settings = self._settings
        return encode_hello(
            Hello(self.session, settings.window, settings.resume_timeout, opened, received)
        )

    def _add(self, channel_id: int) -> _Channel:
        limit = OPENING_UNITS + self._peer_window if self._peer_window else 0
        channel = self._channels[channel_id] = _Channel(self._settings.window, limit)
        return channel

    def _announce(self, channel_id: int, channel: _Channel) -> None:
        if self._is_greeted and channel.receiving.received:
            self._control.append(encode_window(channel_id, *channel.receiving.announce()))
        self._forget_if_done(channel_id, channel)

    def _forget_if_done(self, channel_id: int, channel: _Channel) -> None:
        if channel.is_done:
            self._forget(channel_id)

    def _forget(self, channel_id: int) -> None:
        if channel := self._channels.pop(channel_id, None):
            channel.sending.clear()
            self._waiting.discard(channel_id)

    def _release(self, channel_id: int) -> None:
        channel = self._channels.get(channel_id)
        if channel and channel_id not in self._waiting and channel.sending.has_turn:
            self._waiting.add(channel_id)
            self._ready.append(channel_id)


def _next_of(channel_id: int, sending: SendStream) -> bytes:
    """The next message of a channel that has its turn."""
    if sending.sent == 0 and sending.opening is not None:
        sending.sent = OPENING_UNITS
        return sending.opening
    if sending.has_data:
        return b"".join((message(channel_id, V2Type.DATA), sending.take(SLICE)))
    sending.sent = sending.total
    return message(channel_id, V2Type.END, sending.end_reason)


class V2Cloud(V2Mux):
    """The cloud's side: names the session and opens channels."""

    def __init__(self, session: str, settings: V2Settings, clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self.session = session
        self._ids = count(1)

    def open(self, request: RequestHead) -> int:
        """Open a channel; returns its id. It waits where no tunnel is attached."""
        channel_id = next(self._ids)
        self._add(channel_id).sending.open(encode_open(channel_id, request))
        self._release(channel_id)
        return channel_id

    def send_drain(self, sentence: str) -> None:
        """Ask the edge to dial again soon; what runs goes on."""
        if self._is_greeted:
            self._control.append(message(SESSION, V2Type.DRAIN, sentence.encode()))

    def _greet(self, hello: Hello) -> list[Event]:
        if hello.session != self.session:
            # The edge has no past with this session: it has seen none of its channels.
            hello = Hello(self.session, hello.window, hello.resume_timeout)
        events = self._reconcile(hello, is_lost_open=lambda key: key > hello.opened)
        self._control.append(self._hello())
        self._resume(hello)
        return events

    def _receive_head(
        self, channel_id: int, channel: _Channel, data: bytes | memoryview
    ) -> list[Event]:
        channel.receiving.receive_opening()
        return [Headed(channel_id, decode_head(data))]


class V2Edge(V2Mux):
    """The edge's side: says hello first, serves what the cloud opens."""

    def __init__(self, settings: V2Settings, clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self._opened = 0

    def attach(self) -> None:
        super().attach()
        self._control.append(self._hello(opened=self._opened))

    def send_head(self, channel_id: int, head: ResponseHead) -> None:
        """Queue the answer's head."""
        if channel := self._channels.get(channel_id):
            channel.sending.open(encode_head(channel_id, head))
            self._release(channel_id)

    def _greet(self, hello: Hello) -> list[Event]:
        events: list[Event] = []
        if hello.session != self.session:
            for channel_id in self.channel_ids:
                self._forget(channel_id)
                sentence = "the cloud began a new session"
                events.append(WasReset(channel_id, TunnelClosed.code, sentence))
            self.session = hello.session
            self._opened = 0
        for channel_id in hello.received:
            if channel_id not in self._channels and channel_id <= self._opened:
                # Given up here since this tunnel's first message was written.
                sentence = "the edge gave the request up while the tunnel was away"
                self._control.append(encode_reset(channel_id, TunnelClosed.code, sentence))
        events += self._reconcile(hello, is_lost_open=lambda _: False)
        self._resume(hello)
        return events

    def _receive_open(self, channel_id: int, data: bytes | memoryview) -> list[Event]:
        if channel_id <= self._opened:
            raise RemoteProtocolError("a channel id was used twice")
        request = decode_open(data)
        self._opened = channel_id
        self._add(channel_id).receiving.receive_opening()
        return [Opened(channel_id, request)]
