"""Honest endings: a lost exec or attach tells its user so.

kubectl takes a session that just ends for a success and exits 0. Only a Failure status on the
session's error stream makes it exit 1 with a sentence. So the bytes towards the API server are
followed from frame to frame, nothing more: then a status can be put behind the last whole one.
"""

import json
from abc import ABC, abstractmethod
from base64 import b64encode
from typing import Protocol

from cloudstream.kubelet_path import Subject
from streamkit.errors import StreamError
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values

MAX_HELD = 64 * 1024
"""A frame up to this size is passed on whole; of a larger one, parts are."""

_STATUS_VERSIONS = frozenset(("v4.channel.k8s.io", "v5.channel.k8s.io"))
_SPDY_HEADER = 8
_SPDY_ERROR_STREAM = 1
"""Clients open the error stream first (k8s.io/client-go ``tools/remotecommand``)."""
_SPDY_FIN = 1
_SPDY_SYN_REPLY = b"\x80\x03\x00\x02"
_WEBSOCKET_ERROR_CHANNEL = 3
_WEBSOCKET_CLOSE = b"\x88\x02\x03\xe8"  # RFC 6455 §5.5.1, code 1000


class SessionEnd(Protocol):
    """Follows one upgraded session's bytes towards the API server."""

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take bytes, give those that may go out now."""

    def rest(self) -> bytes:
        """What is held back of an unfinished frame."""

    def failure(self, error: StreamError) -> bytes:
        """The frames that end the session with this error; none where its status has been sent."""

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


class _Frames(ABC):
    """Cuts the bytes at frame boundaries."""

    def __init__(self, *, has_status_format: bool) -> None:
        self._has_status_format = has_status_format
        self._has_status = False
        self._held = b""
        self._remaining = 0

    @property
    def lacks_status(self) -> bool:
        return self._has_status_format and not self._has_status

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        if self._remaining >= len(data):
            self._remaining -= len(data)
            return data
        whole = data if not self._held else self._held + bytes(data)
        view = memoryview(whole)
        position, self._remaining, self._held = self._remaining, 0, b""
        while (size := self._frame_size(view, position)) is not None:
            if position + size > len(view):
                if size > MAX_HELD:
                    self._look_at(view, position)
                    self._remaining = position + size - len(view)
                    return whole
                break
            self._look_at(view, position)
            position += size
        self._held = bytes(view[position:])
        return view[:position]

    def rest(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def failure(self, error: StreamError) -> bytes:
        if self._has_status or self._remaining:
            return b""
        self._held = b""
        self._has_status = True
        message = f"the session was lost: {error} [{error.code}]"
        return self._failure_frames(message)

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
    def _frame_size(self, view: memoryview, position: int) -> int | None:
        """The whole size of the frame that begins there; None while its header is not complete."""

    @abstractmethod
    def _look_at(self, view: memoryview, position: int) -> None:
        """See whether the frame carries the status."""

    @abstractmethod
    def _failure_frames(self, message: str) -> bytes:
        """What puts a status behind the last whole frame, and ends the session."""


class _SpdyEnd(_Frames):
    """SPDY/3.1: 8-byte frame headers, the error stream is stream 1."""

    def __init__(self, version: str) -> None:
        super().__init__(has_status_format=version in _STATUS_VERSIONS)
        self._others: list[int] = []
        """The streams that were accepted, besides the error stream."""

    def _frame_size(self, view: memoryview, position: int) -> int | None:
        if len(view) - position < _SPDY_HEADER:
            return None
        return _SPDY_HEADER + int.from_bytes(view[position + 5 : position + 8])

    def _look_at(self, view: memoryview, position: int) -> None:
        # A data frame's first bit is 0, so its first word is the stream's number.
        stream = int.from_bytes(view[position : position + 4])
        if stream == _SPDY_ERROR_STREAM and any(view[position + 5 : position + 8]):
            self._has_status = True
        elif view[position : position + 4] == _SPDY_SYN_REPLY:
            stream = int.from_bytes(view[position + _SPDY_HEADER : position + _SPDY_HEADER + 4])
            if stream != _SPDY_ERROR_STREAM:
                self._others.append(stream)

    def _failure_frames(self, message: str) -> bytes:
        # A client looks at the status when its output has ended, so that is ended as well.
        return _last_spdy_frame(_SPDY_ERROR_STREAM, self._status(message)) + b"".join(
            _last_spdy_frame(stream) for stream in self._others
        )


def _last_spdy_frame(stream: int, data: bytes = b"") -> bytes:
    flags_and_length = _SPDY_FIN << 24 | len(data)
    return stream.to_bytes(4) + flags_and_length.to_bytes(4) + data


class _WebSocketEnd(_Frames):
    """WebSocket: the first byte of a message is its channel, base64 text or binary."""

    def __init__(self, subprotocol: str) -> None:
        version = subprotocol.replace(".base64.", ".").removeprefix("base64.")
        super().__init__(has_status_format=version in _STATUS_VERSIONS)
        self._is_base64 = "base64" in subprotocol

    def _frame_size(self, view: memoryview, position: int) -> int | None:
        if (header := self._header_size(view, position)) is None:
            return None
        length = view[position + 1] & 0x7F
        if length >= 126:
            length = int.from_bytes(view[position + 2 : position + header])
        return header + length

    def _header_size(self, view: memoryview, position: int) -> int | None:
        if len(view) - position < 2:
            return None
        size = {126: 4, 127: 10}.get(view[position + 1] & 0x7F, 2)
        return size if len(view) - position >= size else None

    def _look_at(self, view: memoryview, position: int) -> None:
        start = position + (self._header_size(view, position) or 0)
        if view[position] & 0x0F not in (1, 2) or start + 1 >= len(view):
            return
        channel = view[start] - ord("0") if self._is_base64 else view[start]
        if channel == _WEBSOCKET_ERROR_CHANNEL:
            self._has_status = True

    def _failure_frames(self, message: str) -> bytes:
        status = self._status(message)
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
