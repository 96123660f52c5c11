import json
from typing import Any

import pytest

from cloudstream.answers import bad_request, error_answer, needs_reshaping, reshaped, wants_upgrade
from cloudstream.kubelet_path import Subject
from streamkit.errors import (
    BadConnectRequest,
    NodeNotConnected,
    NotAllowed,
    OpenTimeout,
    PodNotFound,
    StreamError,
    Unauthenticated,
)
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead, header_values

LOGS = Subject("containerLogs", "ns", "web")
EXEC = Subject("exec", "ns", "web")
PROXY = Subject("metrics", node_name="edge-1")
PROXIED_LOGS = Subject("containerLogs", "ns", "web", "edge-1")
TEXT: Headers = (("Content-Type", "text/plain; charset=utf-8"),)
JSON: Headers = (("Content-Type", "application/json"),)


def shown(answer: tuple[ResponseHead, bytes]) -> tuple[int, str, Any]:
    """Status, content type, and the body: text, or the fields of a Status object that count."""
    head, body = answer
    assert header_values(head.headers, "content-length") == [str(len(body))]
    (kind,) = header_values(head.headers, "content-type")
    if kind != "application/json":
        return head.status, kind, body.decode()
    status = json.loads(body)
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert status["code"] == head.status
    return head.status, kind, (status["reason"], status["message"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OpenTimeout("the edge is slow"), 500),
        (NodeNotConnected("it is off"), 500),
        (PodNotFound("no pod"), 500),
        (NotAllowed("not you"), 403),
        (Unauthenticated("who?"), 401),
        (BadConnectRequest("nonsense"), 400),
        (StreamError("unknown"), 500),
    ],
)
def test_a_logs_error_is_text_with_a_status_whose_body_is_shown(
    error: StreamError, status: int
) -> None:
    text = f"{error} [{error.code}]"
    assert shown(error_answer(error, LOGS)) == (status, "text/plain; charset=utf-8", text)


@pytest.mark.parametrize("subject", [EXEC, PROXY, PROXIED_LOGS, Subject("pods")])
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (OpenTimeout("the edge is slow"), 504, "Timeout"),
        (NodeNotConnected("it is off"), 503, "EdgeNodeOffline"),
        (PodNotFound("no pod"), 404, "NotFound"),
        (StreamError("unknown"), 500, "InternalError"),
    ],
)
def test_any_other_error_is_a_status_object(
    subject: Subject, error: StreamError, status: int, reason: str
) -> None:
    message = f"{error} [{error.code}]"
    assert shown(error_answer(error, subject)) == (status, "application/json", (reason, message))


@pytest.mark.parametrize(
    ("status", "headers", "subject", "expected"),
    [
        (200, TEXT, LOGS, False),
        (302, TEXT, EXEC, False),
        (400, TEXT, LOGS, False),
        (403, TEXT, EXEC, False),
        (500, TEXT, EXEC, False),
        (500, (), LOGS, False),
        (404, TEXT, LOGS, True),
        (404, (), EXEC, True),
        (405, TEXT, EXEC, True),
        (503, TEXT, LOGS, True),
        (400, TEXT, PROXY, True),
        (500, TEXT, PROXY, False),
        (401, JSON, EXEC, True),
        (500, (*TEXT, ("Content-Length", "0")), LOGS, True),
        (404, JSON, EXEC, False),
        (503, JSON, PROXY, False),
        (500, JSON, LOGS, True),
        (500, JSON, PROXIED_LOGS, False),
    ],
)
def test_what_the_api_server_would_swallow_is_reshaped(
    status: int, headers: Headers, subject: Subject, expected: bool
) -> None:
    assert needs_reshaping(ResponseHead(status, headers), subject) is expected


@pytest.mark.parametrize(
    ("status", "body", "subject", "expected"),
    [
        (404, b'pod "web" does not exist\n', LOGS, (400, 'pod "web" does not exist')),
        (503, b"busy", LOGS, (500, "busy")),
        (404, b"", LOGS, (400, "Not Found")),
        (500, b'{"kind": "Status", "message": "no disk"}', LOGS, (500, "no disk")),
        (500, b'{"a": 1}', LOGS, (500, '{"a": 1}')),
        (404, b"no \xff", EXEC, (404, ("NotFound", "no \ufffd"))),
        (405, b"", EXEC, (405, ("MethodNotAllowed", "Method Not Allowed"))),
        (401, b"Unauthorized", EXEC, (403, ("Forbidden", "Unauthorized"))),
        (401, b"Unauthorized", LOGS, (400, "Unauthorized")),
        (500, b"", LOGS, (500, "Internal Server Error")),
        (418, b"tea", PROXY, (418, ("InternalError", "tea"))),
        (404, b"gone", PROXIED_LOGS, (404, ("NotFound", "gone"))),
    ],
)
def test_a_reshaped_error_says_the_same(
    status: int, body: bytes, subject: Subject, expected: tuple[int, object]
) -> None:
    answer = shown(reshaped(ResponseHead(status, TEXT), body, subject))
    assert (answer[0], answer[2]) == expected
    assert not needs_reshaping(reshaped(ResponseHead(status, TEXT), body, subject)[0], subject)


def test_what_is_no_request_is_answered_in_text() -> None:
    assert shown(bad_request(431, "too long")) == (431, "text/plain; charset=utf-8", "too long")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")), True),
        ((("Connection", "keep-alive, upgrade"), ("Upgrade", " WebSocket ")), True),
        ((("Connection", "Upgrade"), ("Upgrade", "h2c")), False),
        ((("Connection", "Upgrade"),), False),
        ((("Upgrade", "SPDY/3.1"),), False),
    ],
)
def test_only_what_can_be_relayed_is_upgraded(headers: Headers, expected: bool) -> None:
    assert wants_upgrade(RequestHead("GET", "/", headers)) is expected
