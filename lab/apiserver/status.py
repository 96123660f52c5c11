"""Kubernetes Status objects: how the API server says no, word for word.

``ApiError`` is raised wherever a request can't be served and becomes the answer. An error without
a reason is what the real one makes of a plain error of its own: kubectl then prints
``Error from server: MESSAGE``, with one ``Error from server (REASON): MESSAGE``.
"""

import json
from typing import Any

from lab.apiserver.gotext import quote
from streamkit.errors import StreamError

_GENERIC = {
    400: ("BadRequest", "the server rejected our request for an unknown reason"),
    401: ("Unauthorized", "the server has asked for the client to provide credentials"),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    409: ("Conflict", "the server reported a conflict"),
    422: ("Invalid", "the server rejected our request due to an error in our request"),
    429: (
        "TooManyRequests",
        "the server has received too many requests and has asked us to try again later",
    ),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: (
        "Timeout",
        (
            "the server was unable to return a response in the time allotted,"
            " but may still be processing the request"
        ),
    ),
}
_OWN_WORDS = {403: "Forbidden", 406: "NotAcceptable", 415: "UnsupportedMediaType"}


class ApiError(StreamError):
    """A request that is answered with a Status object."""

    def __init__(self, status: int, reason: str, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.status_reason = reason
        self.details = details

    def body(self) -> bytes:
        """The Status object as JSON."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.sentence,
        }
        if self.status_reason:
            status["reason"] = self.status_reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.status
        return json.dumps(status).encode()


def plain_error(message: str) -> ApiError:
    """A failure of the API server's own that has no reason word."""
    return ApiError(500, "", message)


def bad_request(message: str) -> ApiError:
    """The request can't be served as it stands."""
    return ApiError(400, "BadRequest", message)


def internal_error(message: str) -> ApiError:
    """The reason InternalError, with its customary opening."""
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")


def service_unavailable(message: str) -> ApiError:
    """What the node proxy says when the node can't be reached."""
    return ApiError(503, "ServiceUnavailable", message)


def not_found(resource: str, name: str) -> ApiError:
    """No object of that name."""
    message = f'{resource} "{name}" not found'
    return ApiError(404, "NotFound", message, {"name": name, "kind": resource})


def no_such_path() -> ApiError:
    """No such API."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> ApiError:
    """The API has no such verb."""
    reason, message = _GENERIC[405]
    return ApiError(405, reason, message)


def already_exists(resource: str, name: str) -> ApiError:
    """A create met an object of that name."""
    message = f'{resource} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, {"name": name, "kind": resource})


def conflict(resource: str, name: str) -> ApiError:
    """An update named a resourceVersion that is not the latest."""
    message = (
        f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified;'
        " please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", message, {"name": name, "kind": resource})


def invalid(kind: str, name: str, problems: list[str]) -> ApiError:
    """An object or option set that fails validation; a problem reads ``field: Word: what``."""
    shown = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    details = {"name": name, "kind": kind}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {shown}', details)


def forbidden(user: str, verb: str, resource: str) -> ApiError:
    """A known caller who may not do this."""
    message = f'{resource} is forbidden: User "{user}" cannot {verb} resource "{resource}"'
    return ApiError(403, "Forbidden", message)


def unauthorized() -> ApiError:
    """A bearer token that nobody knows."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def from_log_answer(status: int, body: str, pod_name: str) -> ApiError:
    """What a kubelet's refusal of a log request becomes.

    Only the bodies of 400, 403 and of every 5xx but 503 and 504 survive; the others give way to
    a stock phrase.
    """
    if status == 400:
        return bad_request(body)
    if status == 500:
        return internal_error(body)
    if status in _GENERIC:
        reason, message = _GENERIC[status]
    elif status in _OWN_WORDS:
        reason, message = _OWN_WORDS[status], body
    elif status > 500:
        reason = "InternalError"
        message = (
            f"an error on the server ({quote(body)}) has prevented the request from succeeding"
        )
    else:
        reason = ""
        message = (
            f"the server responded with the status code {status}"
            " but did not return more information"
        )
    details = {"name": pod_name, "kind": "pods/log"}
    return ApiError(status, reason, f"{message} ( pods/log {pod_name})", details)
