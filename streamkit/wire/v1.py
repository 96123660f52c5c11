"""v1, KubeEdge's stock protocol, from either side. No clock, no socket.

Rules that keep stock peers alive (KubeEdge ``cloud/pkg/cloudstream``, ``edge/pkg/edgestream``):

* towards an edge: no data before its first data of that channel; one RemoveConnect per channel at
  the most, and nothing after it; data and RemoveConnects for unknown ids are normal;
* towards a cloud: one RemoveConnect per channel, always, also as the answer to the cloud's own;
  repeated ones for an id that is gone are ignored.

v1 has neither heads nor windows. What a channel carries is the raw answer of a kubelet (after an
ExecConnect or AttachConnect) or its body alone (LogsConnect, MetricConnect). A reader that stalls
is bounded by ``buffer_limit``: beyond it the channel is reset.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import count

from streamkit.errors import BadConnectRequest, ChannelOverflow, HandshakeRejected
from streamkit.wire.connect_request import decode_connect_request, encode_connect_request
from streamkit.wire.events import Ended, Event, Opened, Received, Refused, WasReset
from streamkit.wire.exchange import RequestHead
from streamkit.wire.message import (
    CONNECT_TYPES,
    MAX_DATA,
    MessageType,
    Pieces,
    decode_message,
    encode_header,
    encode_message,
)
from streamkit.wire.outbox import Outbox

_BODY_ONLY = (MessageType.LOGS_CONNECT, MessageType.METRIC_CONNECT)


class V1Mux(ABC):
    """What both sides have in common: the channels, their buffers, the order of sending."""

    def __init__(self, *, buffer_limit: int) -> None:
        self._outbox = Outbox()
        self._unconsumed: dict[int, int] = {}
        self._buffer_limit = buffer_limit
        self._crowded: set[int] = set()
        self.stray_messages = 0

    @abstractmethod
    def receive(self, payload: bytes) -> list[Event]:
        """Take one message. Raises what the tunnel must then be closed for.

        That is MalformedMessage, and HandshakeRejected where the peer asks for it (CloseConnect).
        """

    @property
    def channel_ids(self) -> Iterator[int]:
        """The channels that live."""
        return iter(tuple(self._unconsumed))

    def send_data(self, channel_id: int, data: bytes | memoryview) -> None:
        """Queue bytes; dropped where the channel is gone."""
        if channel_id in self._outbox:
            self._outbox.data(channel_id, data)

    def consumed(self, channel_id: int, size: int) -> None:
        """The receiver took that many bytes."""
        if channel_id in self._unconsumed:
            self._unconsumed[channel_id] -= size
            if self._crowded and self._unconsumed[channel_id] <= self._buffer_limit // 4:
                self._crowded.discard(channel_id)

    @property
    def is_crowded(self) -> bool:
        """Whether some channel's buffer is half full, or has been and is not down to a quarter."""
        return bool(self._crowded)

    def backlog(self, channel_id: int) -> int:
        """Bytes queued for the channel and not yet handed out by ``next_message``."""
        return self._outbox.backlog(channel_id)

    def next_message(self) -> Pieces | None:
        """The next message to send, or None. Control first, then data round-robin."""
        message = self._next()
        return None if message is None else (message,)

    def _next(self) -> bytes | None:
        if control := self._outbox.next_control():
            return control
        if (turn := self._outbox.next_data()) is None:
            return None
        channel_id, data, is_last = turn
        if is_last:
            remove = encode_message(channel_id, MessageType.REMOVE_CONNECT)
            self._forget(channel_id)
            if not data:
                return remove
            self._outbox.control(remove)
        return b"".join((encode_header(channel_id, MessageType.DATA), data))

    def _add(self, channel_id: int, *, held: bool) -> None:
        self._unconsumed[channel_id] = 0
        self._outbox.add(channel_id, held=held)

    def _forget(self, channel_id: int) -> None:
        self._unconsumed.pop(channel_id, None)
        self._crowded.discard(channel_id)
        self._outbox.remove(channel_id)

    def _remove(self, channel_id: int) -> None:
        """Drop the channel and tell the peer, once."""
        if channel_id in self._unconsumed:
            self._forget(channel_id)
            self._outbox.control(encode_message(channel_id, MessageType.REMOVE_CONNECT))

    def _receive_data(self, channel_id: int, data: bytes | memoryview) -> list[Event]:
        if channel_id not in self._unconsumed or self._outbox.is_ended(channel_id):
            # Nobody takes what comes behind our own end, and it must not cost what is queued.
            self.stray_messages += 1
            return []
        held = self._unconsumed[channel_id] = self._unconsumed[channel_id] + len(data)
        if held > self._buffer_limit // 2:
            self._crowded.add(channel_id)
        if held > self._buffer_limit:
            self._remove(channel_id)
            sentence = "the reader stalled and the peer can't be told to wait"
            return [WasReset(channel_id, ChannelOverflow.code, sentence)]
        return [Received(channel_id, data)]


class V1Cloud(V1Mux):
    """The cloud's side: opens channels as ExecConnect, whatever they ask for."""

    def __init__(self, *, buffer_limit: int) -> None:
        super().__init__(buffer_limit=buffer_limit)
        self._ids = count(1)

    def open(self, request: RequestHead) -> int:
        """Open a channel; returns its id. Raises BadConnectRequest for what can't be carried."""
        channel_id = next(self._ids)
        data = encode_connect_request(channel_id, MessageType.EXEC_CONNECT, request)
        if len(data) > MAX_DATA:
            raise BadConnectRequest("the request's head is too large to be carried")
        self._add(channel_id, held=True)
        self._outbox.control(encode_message(channel_id, MessageType.EXEC_CONNECT, data))
        return channel_id

    def remove(self, channel_id: int) -> None:
        """End the channel: the caller is gone, or has all it wanted."""
        self._remove(channel_id)

    def receive(self, payload: bytes) -> list[Event]:
        message = decode_message(payload)
        channel_id = message.channel_id
        if message.type == MessageType.DATA:
            events = self._receive_data(channel_id, message.data)
            self._outbox.release(channel_id)
            return events
        if message.type == MessageType.REMOVE_CONNECT and channel_id in self._unconsumed:
            self._forget(channel_id)
            return [Ended(channel_id)]
        self.stray_messages += 1
        return []


class V1Edge(V1Mux):
    """The edge's side: serves all four kinds of channels that a stock cloud opens."""

    def receive(self, payload: bytes) -> list[Event]:
        message = decode_message(payload)
        channel_id = message.channel_id
        if message.type == MessageType.DATA:
            return self._receive_data(channel_id, message.data)
        if message.type == MessageType.REMOVE_CONNECT:
            if channel_id not in self._unconsumed:
                self.stray_messages += 1
                return []
            self._remove(channel_id)
            return [WasReset(channel_id, "", "the caller went away")]
        if message.type in CONNECT_TYPES:
            return self._receive_connect(channel_id, message.type, message.data)
        if message.type == MessageType.CLOSE_CONNECT:
            sentence = bytes(message.data[:200]).decode(errors="replace")
            raise HandshakeRejected(f"the cloud closed the tunnel: {sentence}")
        self.stray_messages += 1
        return []

    def send_end(self, channel_id: int) -> None:
        """End the channel behind what is queued."""
        if channel_id in self._outbox:
            self._outbox.end(channel_id)

    def _receive_connect(
        self, channel_id: int, message_type: int, data: bytes | memoryview
    ) -> list[Event]:
        events: list[Event] = []
        if channel_id in self._unconsumed:
            self._forget(channel_id)
            events.append(WasReset(channel_id, "", "the cloud opened the channel anew"))
        self._add(channel_id, held=False)
        try:
            named_id, request = decode_connect_request(data, message_type)
            if named_id != channel_id:
                raise BadConnectRequest("a connect message's two channel ids differ")
        except BadConnectRequest as error:
            self._remove(channel_id)
            return [*events, Refused(channel_id, str(error))]
        return [*events, Opened(channel_id, request, body_only=message_type in _BODY_ONLY)]
