"""Who may call the stream port, and for what.

API servers come with a client certificate. One of the right CA is not enough: where the CA is the
cluster's own, every kubelet and every user with a certificate has one. So the certificate must also
name an API server; such a caller has checked its own users, and may do everything.

Others (metrics-server, Prometheus) come with a bearer token, as they come to any kubelet. The
Kubernetes API says who that is and what he may do on the node.
"""

from collections.abc import Mapping
from urllib.parse import unquote

from cloudstream.config import ApiClientSettings
from cloudstream.kube.review import Access, Reviewer, User
from streamkit.errors import NotAllowed, Unauthenticated
from streamkit.pki.contexts import peer_identity
from streamkit.wire.exchange import RequestHead, header_values

ANY_NODE = ""
"""In place of a node's name: the right to do it on whichever node."""
_MAX_TOKEN = 16 * 1024
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "checkpoint": ("checkpoint",),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
    "configz": ("configz", "proxy"),
}
"""By the path's first part; any of several will do. All other paths need ``proxy``."""


class TokenRefused(Unauthenticated):
    """Nobody has that token. The text is the kubelet's."""


class TokenForbidden(NotAllowed):
    """The token's user may not do this. The text is the kubelet's."""


class Callers:
    """The identities that are let in; tokens only where there is a reviewer for them."""

    def __init__(self, settings: ApiClientSettings, reviewer: Reviewer | None = None) -> None:
        self._common_names = frozenset(settings.common_names)
        self._organizations = frozenset(settings.organizations)
        self._reviewer = reviewer

    async def check(
        self, peercert: Mapping[str, object] | None, request: RequestHead
    ) -> User | None:
        """Let an API server in (None), or a token's user, for whom ``authorize`` has to be asked.

        Raises Unauthenticated where there is neither, NotAllowed for a certificate that names
        nobody who may call, TokenRefused, and LookupFailed where the API does not answer.
        """
        identity = peer_identity(peercert)
        if peercert and (
            identity.common_name in self._common_names
            or not self._organizations.isdisjoint(identity.organizations)
        ):
            return None
        if self._reviewer and (token := _bearer_token(request)):
            user = await self._reviewer.user_of(token)
            if user is None:
                raise TokenRefused("Unauthorized")
            return user
        if peercert:
            raise NotAllowed(
                f'the client certificate of "{identity.common_name}" may not call the stream port',
                hint="allow it with apiClients.commonNames or apiClients.organizations",
            )
        raise Unauthenticated(
            "the stream port serves callers with a client certificate or a bearer token only",
            hint="start the API server with --kubelet-client-certificate",
        )

    async def authorize(self, user: User, request: RequestHead, node_name: str) -> None:
        """Let a token's user do this on that node. Raises TokenForbidden, LookupFailed."""
        verb = _VERBS.get(request.method, "")
        subresources = subresources_of(request.path)
        for subresource in subresources:
            access = Access(verb, node_name, subresource)
            if self._reviewer and await self._reviewer.allows(user, access):
                return
        raise TokenForbidden(
            f"Forbidden (user={user.name}, verb={verb}, resource=nodes, "
            f"subresource(s)=[{' '.join(subresources)}])"
        )


def subresources_of(path: str) -> tuple[str, ...]:
    """The subresources of a Node of which one has to be granted for that path of its kubelet.

    A path that somebody on its way might read in another way needs the most.
    """
    _, *parts = unquote(path).split("/")
    is_plain = "%" not in unquote(path) and {"", ".", ".."}.isdisjoint(parts[:-1])
    if not parts or not is_plain or parts[-1] in (".", ".."):
        return ("proxy",)
    return _SUBRESOURCES.get(parts[0], ("proxy",))


def _bearer_token(request: RequestHead) -> str:
    """The token of the Authorization header; empty where there is none."""
    for value in header_values(request.headers, "authorization"):
        scheme, _, token = value.strip().partition(" ")
        token = token.strip()
        if scheme.lower() == "bearer" and token and len(token) <= _MAX_TOKEN:
            return token
    return ""
