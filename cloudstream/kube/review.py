"""Asks the Kubernetes API who a bearer token is and what he may do, and remembers the answers.

As a kubelet does: TokenReview, then SubjectAccessReview, each remembered for the kubelet's own
times. Tokens are remembered by their digest only.
"""

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cloudstream.kube.api import JsonObject, KubeApi
from streamkit.errors import LookupFailed, StreamError
from streamkit.service.tasks import spawn

_KNOWN_USER, _UNKNOWN_USER = 120.0, 30.0
_ALLOWED, _DENIED = 300.0, 30.0
"""Seconds for which an answer counts."""
_REMEMBERED = 4096
"""Answers of each kind."""

_TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class User:
    """Who a token stands for."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells users apart, all of it."""
        return json.dumps([self.name, self.uid, self.groups, self.extra], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Access:
    """What a user wants of a node: ``verb`` and ``subresource`` as a kubelet names them."""

    verb: str
    node_name: str
    subresource: str


class Reviewer:
    """Answers from memory where it can. Raises LookupFailed while the API is away and it can't."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._users: _Answers[User | None] = _Answers(
            lambda user: _KNOWN_USER if user else _UNKNOWN_USER
        )
        self._decisions: _Answers[bool] = _Answers(
            lambda is_allowed: _ALLOWED if is_allowed else _DENIED
        )

    async def user_of(self, token: str) -> User | None:
        """The user that the token stands for; None: the API does not know it."""
        digest = hashlib.sha256(token.encode()).digest()
        return await self._users.get(digest, lambda: self._review_token(token))

    async def allows(self, user: User, access: Access) -> bool:
        """Whether the user may do that."""
        key = (user.key, access)
        return await self._decisions.get(key, lambda: self._review_access(user, access))

    async def close(self) -> None:
        """End what is being asked. Idempotent."""
        await self._users.close()
        await self._decisions.close()

    async def _review_token(self, token: str) -> User | None:
        status = await self._review(_TOKEN_REVIEWS, "authentication", "TokenReview", token=token)
        if status.get("authenticated") is not True:
            return None
        user = status.get("user")
        if not isinstance(user, dict) or not user.get("username"):
            raise LookupFailed("the Kubernetes API answered a TokenReview without a user")
        return User(
            str(user["username"]),
            str(user.get("uid") or ""),
            tuple(map(str, user.get("groups") or ())),
            user.get("extra") or {},
        )

    async def _review_access(self, user: User, access: Access) -> bool:
        attributes = {
            "verb": access.verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": access.subresource,
            "name": access.node_name,
        }
        status = await self._review(
            _ACCESS_REVIEWS,
            "authorization",
            "SubjectAccessReview",
            user=user.name,
            uid=user.uid,
            groups=list(user.groups),
            extra=user.extra,
            resourceAttributes=attributes,
        )
        return status.get("allowed") is True and status.get("denied") is not True

    async def _review(self, path: str, group: str, kind: str, **spec: object) -> JsonObject:
        body = {"apiVersion": f"{group}.k8s.io/v1", "kind": kind, "spec": spec}
        answer = await self._api.request("POST", path, body=body)
        status = answer.get("status")
        if not isinstance(status, dict):
            raise LookupFailed(f"the Kubernetes API answered a {kind} without a status")
        return status


class _Answers(Generic[V]):
    """Bounded memory of answers, each with its own time; one question for all who ask at once."""

    def __init__(self, lifetime: Callable[[V], float]) -> None:
        self._lifetime = lifetime
        self._known: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()
        self._asking: dict[Hashable, asyncio.Task[tuple[V] | StreamError]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer; a failure to get one is not remembered."""
        known = self._known.get(key)
        if known and time.monotonic() < known[0]:
            self._known.move_to_end(key)
            return known[1]
        task = self._asking.get(key)
        if task is None:
            task = spawn(self._ask(key, ask), name="review", owner=self._tasks)
            self._asking[key] = task
        # Whoever asked first may go away; the others still wait for the answer.
        found = await asyncio.shield(task)
        if isinstance(found, StreamError):
            raise found
        return found[0]

    async def close(self) -> None:
        """End what is being asked."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> tuple[V] | StreamError:
        try:
            answer = await ask()
        except StreamError as error:
            return error
        finally:
            self._asking.pop(key, None)
        self._known[key] = (time.monotonic() + self._lifetime(answer), answer)
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return (answer,)
