"""Honest endings: a lost exec or attach tells its user so.

kubectl takes a session that just ends for a success and exits 0. Only a Failure status on the
session's error stream makes it exit 1 with a sentence. So the bytes towards the API server are
followed from frame to frame, nothing more: then a status can be put behind the last one. A frame
that was cut is filled up with zeros first; what it carried is not complete in any case. A frame's
header goes out when all of it has come, so that a status can still go before the frame that would
hide it.
"""

import json
import struct
from abc import abstractmethod
from base64 import b64encode
from typing import Protocol

from cloudstream.frames import CLOSE, FrameFollower, websocket_header_size, websocket_payload_size
from cloudstream.kubelet_path import Subject
from streamkit.errors import IncompleteAnswer, StreamError
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values

ENDED_WITHOUT_STATUS = "it ended without a status"
MAX_FILLED = 64 * 1024
"""Bytes that are made up of a frame that was cut, at the most."""

_STATUS_VERSIONS = frozenset(("v4.channel.k8s.io", "v5.channel.k8s.io"))
_SPDY_HEADER = struct.Struct(">II")  # stream, or control word; flags and length
_SPDY_CONTROL = 0x8003
_SPDY_ERROR_STREAM = 1
"""Clients open the error stream first (k8s.io/client-go ``tools/remotecommand``)."""
_SPDY_FIN = 1
_SPDY_SYN_REPLY = _SPDY_CONTROL << 16 | 2
_SPDY_RST_STREAM = _SPDY_CONTROL << 16 | 3
_STREAM_SIZE = 4
_WEBSOCKET_ERROR_CHANNEL = 3
_WEBSOCKET_CLOSE = b"\x88\x02\x03\xe8"  # RFC 6455 §5.5.1, code 1000


class SessionEnd(Protocol):
    """Follows one upgraded session's bytes towards the API server."""

    def pass_on(self, data: bytes | memoryview) -> bytes | memoryview:
        """What goes out for these bytes, in order; a header waits for its last byte.

        A status goes before what would make it too late.
        """

    def failure(self, error: StreamError) -> bytes:
        """What ends the session with this error; nothing where its status has been sent."""

    @property
    def lacks_status(self) -> bool:
        """Whether a session that ended now would lack the status that it should have had."""


def session_end_of(request: RequestHead, head: ResponseHead, subject: Subject) -> SessionEnd | None:
    """How to end the session that this 101 began; None where no way is known."""
    if subject.root not in ("exec", "attach"):
        return None
    upgrades = {value.lower() for value in header_values(head.headers, "upgrade")}
    if "websocket" in upgrades:
        chosen = header_values(head.headers, "sec-websocket-protocol")
        return _WebSocketEnd(chosen[0] if chosen else "")
    versions = header_values(head.headers, "x-stream-protocol-version")
    return _SpdyEnd(versions[0] if versions else "")


class _Frames(FrameFollower):
    """Tells a status from what else passes, and makes one up."""

    def __init__(self, *, has_status_format: bool) -> None:
        super().__init__()
        self._has_status_format = has_status_format
        self._has_status = False
        self._is_foreign = False
        """Whether this is some other protocol, in which no frames can be told."""
        self._hides_at: int | None = None
        """Where the frame begins behind which a client reads no status."""

    @property
    def lacks_status(self) -> bool:
        return self._has_status_format and not self._is_over

    @property
    def _is_over(self) -> bool:
        return self._has_status or self._is_foreign

    def pass_on(self, data: bytes | memoryview) -> bytes | memoryview:
        if self._is_over:
            return data
        held = bytes(self._header)
        self.follow(data)
        whole = memoryview(held + data) if held else memoryview(data)
        hides_at, self._hides_at = self._hides_at, None
        if hides_at is not None and self.lacks_status:
            place = len(held) + hides_at
            told = self._told(IncompleteAnswer(ENDED_WITHOUT_STATUS))
            return b"".join((whole[:place], told, whole[place:]))
        return whole if self._is_over else whole[: len(whole) - len(self._header)]

    def failure(self, error: StreamError) -> bytes:
        # Of a frame that lacks too much, the end can't be made up: the connection just closes.
        if self._is_over or self._remaining > MAX_FILLED:
            return b""
        return bytes(self._remaining) + self._told(error)

    def _told(self, error: StreamError) -> bytes:
        self._has_status = True
        message = f"the session was lost: {error} [{error.code}]"
        return self._failure_frames(self._status(message))

    def _status(self, message: str) -> bytes:
        if not self._has_status_format:
            return message.encode()
        fields = {
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": "InternalError",
            "code": 500,
        }
        return json.dumps(fields).encode()

    @abstractmethod
    def _failure_frames(self, status: bytes) -> bytes:
        """What puts a status behind the last frame, and ends the session."""


class _SpdyEnd(_Frames):
    """SPDY/3.1: 8-byte frame headers, the error stream is stream 1.

    A server's first frame answers a stream (SYN_REPLY) or pings; a stream that begins otherwise is
    some other protocol, and left alone. A server that gives up, as containerd does after its idle
    timeout, resets all streams (RST_STREAM); a client then reads no status any more.
    """

    def __init__(self, version: str) -> None:
        super().__init__(has_status_format=version in _STATUS_VERSIONS)
        self._is_begun = False
        self._others: list[int] = []
        """The streams that were accepted, but for the error stream."""

    def pass_on(self, data: bytes | memoryview) -> bytes | memoryview:
        if data and not self._is_begun:
            self._is_begun = True
            self._is_foreign = data[0] != _SPDY_CONTROL >> 8
        return super().pass_on(data)

    def _header_size(self, header: bytearray) -> int:
        if len(header) < _SPDY_HEADER.size:
            return _SPDY_HEADER.size
        word, rest = _SPDY_HEADER.unpack_from(header)
        has_room = rest & 0xFFFFFF >= _STREAM_SIZE
        names_stream = has_room and word in (_SPDY_SYN_REPLY, _SPDY_RST_STREAM)
        return _SPDY_HEADER.size + (_STREAM_SIZE if names_stream else 0)

    def _read_header(self, header: bytearray) -> int:
        # A data frame's first bit is 0, so its first word is the stream's number.
        word, rest = _SPDY_HEADER.unpack_from(header)
        length: int = (rest & 0xFFFFFF) - (len(header) - _SPDY_HEADER.size)
        named = int.from_bytes(header[_SPDY_HEADER.size :])
        if named and word == _SPDY_SYN_REPLY and named != _SPDY_ERROR_STREAM:
            self._others.append(named)
        elif named == _SPDY_ERROR_STREAM and word == _SPDY_RST_STREAM:
            self._hides_at = self._begin
        self._has_status |= word == _SPDY_ERROR_STREAM and length > 0
        return length

    def _failure_frames(self, status: bytes) -> bytes:
        # A client looks at the status when its output has ended, so that is ended as well.
        last = _SPDY_FIN << 24
        frames = [_SPDY_HEADER.pack(_SPDY_ERROR_STREAM, last | len(status)), status]
        return b"".join(frames + [_SPDY_HEADER.pack(stream, last) for stream in self._others])


class _WebSocketEnd(_Frames):
    """WebSocket (RFC 6455 §5.2): the first byte of a message is its channel, text or binary."""

    def __init__(self, subprotocol: str) -> None:
        version = subprotocol.replace(".base64.", ".").removeprefix("base64.")
        super().__init__(has_status_format=version in _STATUS_VERSIONS)
        self._is_base64 = "base64" in subprotocol

    def _header_size(self, header: bytearray) -> int:
        size = websocket_header_size(header)
        # The channel's byte is read along with the header, where there is one.
        return size if len(header) < size or not websocket_payload_size(header) else size + 1

    def _read_header(self, header: bytearray) -> int:
        length = websocket_payload_size(header)
        if header[0] & 0x0F == CLOSE:
            self._hides_at = self._begin
        if not length:
            return 0
        channel = header[-1] - ord("0") if self._is_base64 else header[-1]
        is_message = header[0] & 0x0F in (1, 2)
        self._has_status |= is_message and channel == _WEBSOCKET_ERROR_CHANNEL and length > 1
        return length - 1

    def _failure_frames(self, status: bytes) -> bytes:
        if self._is_base64:
            payload = str(_WEBSOCKET_ERROR_CHANNEL).encode() + b64encode(status)
        else:
            payload = bytes((_WEBSOCKET_ERROR_CHANNEL,)) + status
        opcode = 0x81 if self._is_base64 else 0x82
        if len(payload) < 126:
            header = bytes((opcode, len(payload)))
        else:
            header = bytes((opcode, 126)) + len(payload).to_bytes(2)
        return header + payload + _WEBSOCKET_CLOSE
