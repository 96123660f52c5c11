"""v2's messages: the same ``uvarint id, uvarint type`` header as v1, in binary frames.

Id 0 is the session itself. Types begin at 16, out of v1's way. What a side would refuse, the other
does not send: an encoder raises for one request or answer what would cost its peer the tunnel.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import isfinite
from typing import Any

from streamkit.errors import BadConnectRequest, IncompleteAnswer, MalformedMessage
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead
from streamkit.wire.varint import MAX_VALUE, decode_uvarint, encode_uvarint

SUBPROTOCOL = "v2.edgestream"
"""Offered by an edge and chosen by a cloud that both speak v2 (RFC 6455 §1.9)."""

SESSION_HEADER = "EdgeStream-Session"
"""Names the session that an edge wants to resume, in its handshake."""

SESSION = 0

MAX_OPENING = 1024 * 1024
"""Bytes of an OPEN or HEAD message; every receiver takes at least these."""

MAX_BATCHED = 2 * 1024
"""Bytes of a message that may leave in a batch."""

MAX_BATCH = 16 * 1024
"""Bytes from which on a batch takes no further message."""

MAX_SENTENCE = 1000
"""Characters of a reason that are sent, and read."""

_SESSION_NAME = re.compile(r"[0-9A-Za-z_-]{0,64}")
# RFC 9110 §5.6.2, §5.5 and §9.1; a request's target is what a request line can hold.
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_FIELD_VALUE = re.compile(r"(?:[^\0\s](?:[^\0\r\n\f\v]*[^\0\s])?)?", re.ASCII)
_REASON_PHRASE = re.compile(r"[^\0\r\n]*")


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
    BATCH = 24


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


_BATCH_HEADER = message(SESSION, V2Type.BATCH)


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
        window, opened = _natural(fields["window"]), _natural(fields["opened"])
        session, timeout = fields["session"], fields["resumeTimeout"]
        if not isinstance(session, str) or not _SESSION_NAME.fullmatch(session):
            raise ValueError("session")
        if type(timeout) not in (int, float) or not isfinite(timeout) or timeout < 0:
            raise ValueError("resumeTimeout")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedMessage("a hello lacks something or has it wrong") from error
    return Hello(session, window, float(timeout), opened, received)


def encode_open(channel_id: int, request: RequestHead) -> bytes:
    """The OPEN message of a request. Raises BadConnectRequest for one that can't be carried."""
    fault = _fault_of_request(request)
    fields = {"method": request.method, "target": request.target, "headers": request.headers}
    opening = message(channel_id, V2Type.OPEN, _dump(fields))
    if fault or len(opening) > MAX_OPENING:
        why = fault or "its head is too large"
        raise BadConnectRequest(f"the request can't be carried to the edge: {why}")
    return opening


def decode_open(data: bytes | memoryview) -> RequestHead:
    """Read an OPEN's data. Raises MalformedMessage."""
    fields = _load(data)
    request = RequestHead(_text(fields, "method"), _text(fields, "target"), _headers(fields))
    if fault := _fault_of_request(request):
        raise MalformedMessage(f"an open can't be used: {fault}")
    return request


def encode_head(channel_id: int, head: ResponseHead) -> bytes:
    """The HEAD message of an answer. Raises IncompleteAnswer for one that can't be carried."""
    fault = _fault_of_answer(head)
    fields = {"status": head.status, "reason": head.reason, "headers": head.headers}
    opening = message(channel_id, V2Type.HEAD, _dump(fields))
    if fault or len(opening) > MAX_OPENING:
        why = fault or "its head is too large"
        raise IncompleteAnswer(f"the answer can't be carried to the cloud: {why}")
    return opening


def decode_head(data: bytes | memoryview) -> ResponseHead:
    """Read a HEAD's data. Raises MalformedMessage."""
    fields = _load(data)
    status = fields.get("status")
    if type(status) is not int:
        raise MalformedMessage("a head can't be used: it has no status")
    head = ResponseHead(status, _headers(fields), _text(fields, "reason"))
    if fault := _fault_of_answer(head):
        raise MalformedMessage(f"a head can't be used: {fault}")
    return head


def encode_reset(channel_id: int, code: str, sentence: str) -> bytes:
    """The RESET message: the channel is gone, now, and why."""
    return message(channel_id, V2Type.RESET, encode_reason(code, sentence))


def encode_reason(code: str, sentence: str) -> bytes:
    """Why a channel broke off, as RESET and a failed END have it: a KS code and a sentence."""
    return _dump({"code": code, "sentence": sentence[:MAX_SENTENCE]})


def decode_reason(data: bytes | memoryview) -> tuple[str, str]:
    """Read a reason. Raises MalformedMessage."""
    fields = _load(data)
    return _text(fields, "code"), _text(fields, "sentence")[:MAX_SENTENCE]


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


def encode_batch(messages: Sequence[bytes | memoryview]) -> bytes:
    """The BATCH message: several messages, which are to be taken in this order."""
    parts: list[bytes | memoryview] = [_BATCH_HEADER]
    for each in messages:
        parts += (encode_uvarint(len(each)), each)
    return b"".join(parts)


def decode_batch(data: bytes | memoryview) -> Iterator[bytes]:
    """Read a BATCH's messages. Raises MalformedMessage, also for a batch inside a batch."""
    position = 0
    while position < len(data):
        size, begin = decode_uvarint(data, position)
        position = begin + size
        if position > len(data):
            raise MalformedMessage("a batch ends inside one of its messages")
        # A copy: what is kept of a small message must not keep the whole batch.
        part = bytes(data[begin:position])
        if part.startswith(_BATCH_HEADER):
            raise MalformedMessage("a batch holds a batch")
        yield part


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


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise MalformedMessage(f"a message has a {name} that is no text")
    return value


def _headers(fields: dict[str, Any]) -> Headers:
    lines = fields.get("headers", [])
    if not isinstance(lines, list) or not all(map(_is_header_line, lines)):
        raise MalformedMessage("a message has header lines that are none")
    return tuple((name, value) for name, value in lines)


def _is_header_line(line: object) -> bool:
    return isinstance(line, list) and len(line) == 2 and all(isinstance(text, str) for text in line)


def _fault_of_request(request: RequestHead) -> str:
    """Why the request is none that HTTP can express; empty where it is one."""
    if not _TOKEN.fullmatch(request.method):
        return "its method is none"
    if not _TARGET.fullmatch(request.target):
        return "its target is no path"
    return _fault_of_headers(request.headers)


def _fault_of_answer(head: ResponseHead) -> str:
    if head.status != 101 and not 200 <= head.status <= 599:
        return f"{head.status} is no status of an answer"
    if not _is_latin1(head.reason) or not _REASON_PHRASE.fullmatch(head.reason):
        return "its reason phrase is none"
    return _fault_of_headers(head.headers)


def _fault_of_headers(headers: Headers) -> str:
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            return "a header's name is none"
        if not _is_latin1(value) or not _FIELD_VALUE.fullmatch(value):
            return f"the value of its header {name} is none"
    return ""


def _is_latin1(text: str) -> bool:
    return text.isascii() or max(text) <= "\xff"


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_VALUE:
        raise ValueError("no natural number")
    return value
