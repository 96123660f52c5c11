"""Errors in the shape in which kubectl's user gets to read them.

The API server shows the body of some status codes and swallows that of others, and it differs by
what was asked: a container's log, an upgrade (exec, attach, port-forward) or the node proxy. What
is swallowed is given a shape that is not.
"""

import json

from cloudstream.callers import TokenForbidden, TokenRefused
from cloudstream.kubelet_path import Subject
from streamkit.errors import StreamError
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values

SHOWN_TEXT = frozenset((400, 403, 500, 502))
SHOWN_TEXT_BY_PROXY = frozenset((403, 500, 502))
MAX_BODY = 50_000
"""The API server reads no more of an error's body."""

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    409: "Conflict",
    422: "Invalid",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def error_answer(error: StreamError, subject: Subject) -> tuple[ResponseHead, bytes]:
    """The answer to a request that this service can't carry out."""
    if isinstance(error, TokenRefused | TokenForbidden):
        return _text(error.http_status, str(error))
    message = f"{error} [{error.code}]"
    status = error.http_status or 500
    if subject.is_logs and not subject.node_name:
        return _text(status if status in (400, 401, 403) else 500, message)
    return _status_object(status, message, error.reason)


def needs_reshaping(head: ResponseHead, subject: Subject) -> bool:
    """Whether the API server would swallow the body of this answer of the edge."""
    if head.status < 400:
        return False
    if head.status == 401 or header_values(head.headers, "content-length") == ["0"]:
        return True
    if _is_json(head):
        # Of a log's error it shows the JSON itself, where it shows anything.
        return subject.is_logs and not subject.node_name
    return head.status not in (SHOWN_TEXT_BY_PROXY if subject.node_name else SHOWN_TEXT)


def reshaped(head: ResponseHead, body: bytes, subject: Subject) -> tuple[ResponseHead, bytes]:
    """The same error, in a shape that reaches the user.

    A kubelet's 401 is one to the edge agent; kubectl would tell its user to log in.
    """
    status = 403 if head.status == 401 else head.status
    message = _status_message(body) or body.decode(errors="replace").strip() or head.phrase
    if subject.is_logs and not subject.node_name:
        return _text(400 if status < 500 else 500, message)
    return _status_object(status, message, _REASONS.get(status, "InternalError"))


def _status_message(body: bytes) -> str:
    """What a Status object says; nothing where the body is none."""
    try:
        fields = json.loads(body)
    except ValueError:
        return ""
    is_status = isinstance(fields, dict) and fields.get("kind") == "Status"
    return str(fields.get("message", "")) if is_status else ""


def bad_request(status: int, sentence: str) -> tuple[ResponseHead, bytes]:
    """The answer to what is no usable HTTP request."""
    return _text(status, sentence)


def wants_upgrade(request: RequestHead) -> bool:
    """Whether the request asks for a protocol that can be relayed.

    Kubernetes uses SPDY/3.1 and WebSocket; anything else is refused before it is carried.
    """
    protocols = {value.strip().lower() for value in header_values(request.headers, "upgrade")}
    return request.is_upgrade and not protocols.isdisjoint(("spdy/3.1", "websocket"))


def _text(status: int, message: str) -> tuple[ResponseHead, bytes]:
    body = message.encode()
    return ResponseHead(status, (_content_type("text/plain; charset=utf-8"), _length(body))), body


def _status_object(status: int, message: str, reason: str) -> tuple[ResponseHead, bytes]:
    fields = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status,
    }
    body = json.dumps(fields).encode()
    return ResponseHead(status, (_content_type("application/json"), _length(body))), body


def _is_json(head: ResponseHead) -> bool:
    return any("json" in value for value in header_values(head.headers, "content-type"))


def _content_type(value: str) -> tuple[str, str]:
    return ("Content-Type", value)


def _length(body: bytes) -> tuple[str, str]:
    return ("Content-Length", str(len(body)))
