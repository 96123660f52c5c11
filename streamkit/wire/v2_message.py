"""v2's messages: the same ``uvarint id, uvarint type`` header as v1, in binary frames.

Id 0 is the session itself. Types begin at 16, out of v1's way.
"""

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from streamkit.errors import MalformedMessage
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead
from streamkit.wire.varint import decode_uvarint, encode_uvarint

SUBPROTOCOL = "v2.edgestream"
"""Offered by an edge and chosen by a cloud that both speak v2 (RFC 6455 §1.9)."""

SESSION_HEADER = "EdgeStream-Session"
"""Names the session that an edge wants to resume, in its handshake."""

SESSION = 0


class V2Type(IntEnum):
    """Message types. The numbers are the wire's."""

    HELLO = 16
    OPEN = 17
    HEAD = 18
    DATA = 19
    END = 20
    RESET = 21
    WINDOW = 22
    DRAIN = 23


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of each side on each tunnel.

    ``window`` is how many data bytes the peer may send on a new channel. ``opened`` is the highest
    channel id that the edge has ever seen in this session; ``received`` maps each channel that the
    sender still has to the position up to which it has received.
    """

    session: str
    window: int
    resume_timeout: float
    opened: int = 0
    received: dict[int, int] = field(default_factory=dict)


def message(channel_id: int, message_type: V2Type, data: bytes = b"") -> bytes:
    """A whole message."""
    return encode_uvarint(channel_id) + encode_uvarint(message_type) + data


def encode_hello(hello: Hello) -> bytes:
    """The HELLO message."""
    fields = {
        "session": hello.session,
        "window": hello.window,
        "resumeTimeout": hello.resume_timeout,
        "opened": hello.opened,
        "received": sorted(hello.received.items()),
    }
    return message(SESSION, V2Type.HELLO, _dump(fields))


def decode_hello(data: bytes | memoryview) -> Hello:
    """Read a HELLO's data. Raises MalformedMessage."""
    fields = _load(data)
    try:
        received = {_natural(key): _natural(value) for key, value in fields["received"]}
        session, timeout = fields["session"], fields["resumeTimeout"]
        if not isinstance(session, str) or not isinstance(timeout, int | float):
            raise TypeError("session")
        window, opened = _natural(fields["window"]), _natural(fields["opened"])
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedMessage("a hello lacks something or has it wrong") from error
    return Hello(session, window, timeout, opened, received)


def encode_open(channel_id: int, request: RequestHead) -> bytes:
    """The OPEN message of a request."""
    fields = {"method": request.method, "target": request.target, "headers": request.headers}
    return message(channel_id, V2Type.OPEN, _dump(fields))


def decode_open(data: bytes | memoryview) -> RequestHead:
    """Read an OPEN's data. Raises MalformedMessage."""
    fields = _load(data)
    method, target = fields.get("method"), fields.get("target")
    if not isinstance(method, str) or not isinstance(target, str) or not target.startswith("/"):
        raise MalformedMessage("an open names no method or no target")
    return RequestHead(method, target, _headers(fields))


def encode_head(channel_id: int, head: ResponseHead) -> bytes:
    """The HEAD message of an answer."""
    fields = {"status": head.status, "reason": head.reason, "headers": head.headers}
    return message(channel_id, V2Type.HEAD, _dump(fields))


def decode_head(data: bytes | memoryview) -> ResponseHead:
    """Read a HEAD's data. Raises MalformedMessage."""
    fields = _load(data)
    status, reason = fields.get("status"), fields.get("reason", "")
    if type(status) is not int or not 100 <= status <= 599 or not isinstance(reason, str):
        raise MalformedMessage("a head has no usable status")
    return ResponseHead(status, _headers(fields), reason)


def encode_reset(channel_id: int, code: str, sentence: str) -> bytes:
    """The RESET message: the channel is gone, now, and why."""
    return message(channel_id, V2Type.RESET, encode_reason(code, sentence))


def encode_reason(code: str, sentence: str) -> bytes:
    """Why a channel broke off, as RESET and a failed END have it: a KS code and a sentence."""
    return _dump({"code": code, "sentence": sentence})


def decode_reason(data: bytes | memoryview) -> tuple[str, str]:
    """Read a reason. Raises MalformedMessage."""
    fields = _load(data)
    return str(fields.get("code", "")), str(fields.get("sentence", ""))


def encode_window(channel_id: int, consumed: int, limit: int) -> bytes:
    """The WINDOW message: what has been consumed, and how far the peer may send."""
    return message(channel_id, V2Type.WINDOW, encode_uvarint(consumed) + encode_uvarint(limit))


def decode_window(data: bytes | memoryview) -> tuple[int, int]:
    """Read a WINDOW's data. Raises MalformedMessage."""
    consumed, position = decode_uvarint(data)
    limit, position = decode_uvarint(data, position)
    if position != len(data):
        raise MalformedMessage("a window update has bytes behind it")
    return consumed, limit


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _load(data: bytes | memoryview) -> dict[str, Any]:
    try:
        fields = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise MalformedMessage("a message holds no JSON where it should") from error
    if not isinstance(fields, dict):
        raise MalformedMessage("a message holds no JSON object where it should")
    return fields


def _headers(fields: dict[str, Any]) -> Headers:
    lines = fields.get("headers", [])
    try:
        headers = tuple((name, value) for name, value in lines)
    except (TypeError, ValueError) as error:
        raise MalformedMessage("a message has header lines that are none") from error
    for name, value in headers:
        if not isinstance(name, str) or not isinstance(value, str):
            raise MalformedMessage("a message has header lines that are no text")
        if any(mark in name + value for mark in "\r\n\0"):
            raise MalformedMessage("a message has a header with a line break")
    return headers


def _natural(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no natural number")
    return value
