"""Who calls, and what the reviews say that other servers ask for.

Whoever shows a client certificate of the lab's CA or a configured bearer token may do everything;
anonymous callers get no further than the health checks and the version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.apiserver.config import Token
from lab.apiserver.status import ApiError, bad_request, unauthorized
from streamkit.wire.exchange import RequestHead, header_values

ANONYMOUS = "system:anonymous"
MASTERS = "system:masters"
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")


@dataclass(frozen=True, slots=True)
class Caller:
    """A user name and its groups."""

    name: str
    groups: tuple[str, ...] = ()


def identify(
    certificate: Mapping[str, Any], head: RequestHead, tokens: Mapping[str, Token]
) -> Caller:
    """The caller by certificate (CN, O), else by bearer token, else anonymous.

    Raises ApiError 401 for a token that is not among those configured.
    """
    if certificate:
        names = [pair for part in certificate.get("subject", ()) for pair in part]
        common = next((value for key, value in names if key == "commonName"), "")
        groups = tuple(value for key, value in names if key == "organizationName")
        return Caller(common, groups)
    for value in header_values(head.headers, "authorization"):
        scheme, _, secret = value.partition(" ")
        if scheme.lower() != "bearer" or secret not in tokens:
            raise unauthorized()
        return Caller(tokens[secret].user, tokens[secret].groups)
    return Caller(ANONYMOUS, ("system:unauthenticated",))


def authorize(caller: Caller, head: RequestHead) -> None:
    """Raise ApiError 403 unless the caller may go on."""
    if caller.name == ANONYMOUS and not head.path.startswith(_PUBLIC):
        verb = head.method.lower()
        message = f'forbidden: User "{ANONYMOUS}" cannot {verb} path "{head.path}"'
        raise ApiError(403, "Forbidden", message)


def review_token(review: Any, tokens: Mapping[str, Token]) -> dict[str, Any]:
    """Answer a TokenReview."""
    try:
        token = tokens.get(review["spec"]["token"])
    except (KeyError, TypeError) as error:
        raise bad_request("a TokenReview needs spec.token") from error
    if token is None:
        return {**review, "status": {"authenticated": False, "error": "token not known"}}
    user = {"username": token.user, "uid": token.user, "groups": list(token.groups)}
    return {**review, "status": {"authenticated": True, "user": user}}


def review_access(review: Any, tokens: Mapping[str, Token]) -> dict[str, Any]:
    """Answer a SubjectAccessReview from what the user's token grants."""
    try:
        spec = review["spec"]
        asked = spec.get("resourceAttributes", {})
        name, groups = spec.get("user", ""), spec.get("groups") or ()
    except (KeyError, TypeError, AttributeError) as error:
        raise bad_request("a SubjectAccessReview needs a spec") from error
    wanted = "/".join(filter(None, (asked.get("resource"), asked.get("subresource"))))
    granted = {grant for token in tokens.values() if token.user == name for grant in token.allowed}
    return {**review, "status": {"allowed": MASTERS in groups or wanted in granted}}
