"""The server's end of a SPDY/3.1 connection on which the client opens all streams.

It behaves as k8s.io/apimachinery's does (``httpstream/spdy`` on moby/spdystream): there is no flow
control but the connection's own, and settings, windows and priorities are left unread.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from edgestream.spdy.frames import (
    FIN,
    UNIDIRECTIONAL,
    Control,
    Data,
    FrameReader,
    Kind,
    Status,
    control_frame,
    data_frame,
)
from edgestream.spdy.headers import HeaderReader, HeaderWriter
from streamkit.errors import BadRequest

_NUMBER = struct.Struct(">I")
_TWO_NUMBERS = struct.Struct(">II")
_SYN_STREAM_HEAD = 10
"""Bytes of a SYN_STREAM before its headers: stream, associated stream, priority and slot."""
_HEADERS_HEAD = 4
_STREAM_MASK = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The client opened a stream, which waits to be accepted or reset."""

    stream_id: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StreamData:
    """More of a stream."""

    stream_id: int
    payload: memoryview


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The client will send no more on a stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The client gave a stream up, both ways."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What has to be sent to the client, whatever else happens."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The client will open no more streams."""


Event = StreamOpened | StreamData | StreamEnded | StreamReset | Answer | GoneAway


class SpdyServer:
    """Turns bytes into events, and what is done with streams into bytes.

    What is said of a stream that is over, by either side, is void: the bytes for it are empty.
    """

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._reader = HeaderReader()
        self._writer = HeaderWriter()
        self._receiving: set[int] = set()
        self._sending: set[int] = set()
        self._last_id = 0
        self._is_gone = False

    def receive(self, data: bytes) -> list[Event]:
        """What the client's next bytes mean. Raises BadRequest where they can't be understood."""
        events: list[Event] = []
        for frame in self._frames.feed(data):
            if isinstance(frame, Data):
                self._receive_data(frame, events)
            else:
                try:
                    self._receive_control(frame, events)
                except struct.error as error:
                    raise BadRequest("the caller's SPDY frame is too short") from error
        return events

    def accept(self, stream_id: int) -> bytes:
        """Tell the client that its stream is welcome. To be sent in order of calls."""
        if stream_id not in self._sending:
            return b""
        payload = _NUMBER.pack(stream_id) + self._writer.write({})
        return control_frame(Kind.SYN_REPLY, payload)

    def send(self, stream_id: int, data: bytes = b"", *, is_last: bool = False) -> bytes:
        """More of a stream for the client; the last piece ends this direction."""
        if stream_id not in self._sending:
            return b""
        if is_last:
            self._sending.discard(stream_id)
        return data_frame(stream_id, data, is_last=is_last)

    def reset(self, stream_id: int, status: Status) -> bytes:
        """Give a stream up, both ways."""
        if not self._is_open(stream_id):
            return b""
        self._forget(stream_id)
        return _reset_frame(stream_id, status)

    def go_away(self) -> bytes:
        """Tell the client that nothing will be answered any more."""
        payload = _TWO_NUMBERS.pack(self._last_id, Status.PROTOCOL_ERROR)
        return control_frame(Kind.GOAWAY, payload)

    def _receive_data(self, frame: Data, events: list[Event]) -> None:
        if frame.stream_id not in self._receiving:
            return  # it crossed a reset
        if frame.payload:
            events.append(StreamData(frame.stream_id, frame.payload))
        if frame.is_last:
            self._receiving.discard(frame.stream_id)
            events.append(StreamEnded(frame.stream_id))

    def _receive_control(self, frame: Control, events: list[Event]) -> None:
        if frame.kind == Kind.SYN_STREAM:
            self._open(frame, events)
        elif frame.kind == Kind.HEADERS:
            self._receive_headers(frame, events)
        elif frame.kind == Kind.RST_STREAM:
            stream_id, _ = _TWO_NUMBERS.unpack_from(frame.payload)
            if self._is_open(stream_id):
                self._forget(stream_id)
                events.append(StreamReset(stream_id))
        elif frame.kind == Kind.PING:
            (number,) = _NUMBER.unpack_from(frame.payload)
            if number % 2:  # even ones would answer pings of our own
                events.append(Answer(control_frame(Kind.PING, frame.payload)))
        elif frame.kind == Kind.GOAWAY:
            self._is_gone = True
            events.append(GoneAway())

    def _open(self, frame: Control, events: list[Event]) -> None:
        stream_id = _NUMBER.unpack_from(frame.payload)[0] & _STREAM_MASK
        headers = self._reader.read(frame.payload[_SYN_STREAM_HEAD:])
        if self._is_gone:
            return
        if stream_id <= self._last_id or stream_id % 2 == 0:
            events.append(Answer(_reset_frame(stream_id, Status.PROTOCOL_ERROR)))
            return
        self._last_id = stream_id
        self._receiving.add(stream_id)
        if not frame.flags & UNIDIRECTIONAL:
            self._sending.add(stream_id)
        events.append(StreamOpened(stream_id, headers))
        self._end_if_told(frame, stream_id, events)

    def _receive_headers(self, frame: Control, events: list[Event]) -> None:
        stream_id = _NUMBER.unpack_from(frame.payload)[0] & _STREAM_MASK
        self._reader.read(frame.payload[_HEADERS_HEAD:])
        self._end_if_told(frame, stream_id, events)

    def _end_if_told(self, frame: Control, stream_id: int, events: list[Event]) -> None:
        if frame.flags & FIN and stream_id in self._receiving:
            self._receiving.discard(stream_id)
            events.append(StreamEnded(stream_id))

    def _is_open(self, stream_id: int) -> bool:
        return stream_id in self._sending or stream_id in self._receiving

    def _forget(self, stream_id: int) -> None:
        self._receiving.discard(stream_id)
        self._sending.discard(stream_id)


def _reset_frame(stream_id: int, status: Status) -> bytes:
    return control_frame(Kind.RST_STREAM, _TWO_NUMBERS.pack(stream_id, status))
