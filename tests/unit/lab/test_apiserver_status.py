"""Status objects, against what kubectl was seen to print in front of a real API server."""

import json

import pytest

from lab.apiserver.status import ApiError, conflict, from_log_answer, invalid, plain_error

BODY = 'node "edge-1" is offline\n'


REWRITTEN = {
    400: ("BadRequest", BODY),
    401: ("Unauthorized", "the server has asked for the client to provide credentials"),
    403: ("Forbidden", BODY),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    408: ("", "the server responded with the status code 408 but did not return more information"),
    500: ("InternalError", f"Internal error occurred: {BODY}"),
    502: (
        "InternalError",
        (
            r'an error on the server ("node \"edge-1\" is offline\n")'
            " has prevented the request from succeeding"
        ),
    ),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}


@pytest.mark.parametrize("status", REWRITTEN)
def test_a_refused_log_request_is_rewritten(status: int) -> None:
    error = from_log_answer(status, BODY, "web")
    reason, message = REWRITTEN[status]
    if status not in (400, 500):
        message += " ( pods/log web)"
    assert (error.status, error.status_reason, error.sentence) == (status, reason, message)


def test_the_body_is_a_status_object() -> None:
    document = json.loads(conflict("configmaps", "tunnelport").body())
    assert document["kind"] == "Status"
    assert document["apiVersion"] == "v1"
    assert document["status"] == "Failure"
    assert document["code"] == 409
    assert document["reason"] == "Conflict"
    assert document["details"] == {"name": "tunnelport", "kind": "configmaps"}
    assert "the object has been modified" in document["message"]


def test_a_plain_error_has_no_reason() -> None:
    assert "reason" not in json.loads(plain_error("dial tcp").body())


@pytest.mark.parametrize(
    ("problems", "told"), [(["a: b"], "a: b"), (["a: b", "c: d"], "[a: b, c: d]")]
)
def test_validation_tells_every_problem(problems: list[str], told: str) -> None:
    error: ApiError = invalid("PodLogOptions", "web", problems)
    assert str(error) == f'PodLogOptions "web" is invalid: {told}'
