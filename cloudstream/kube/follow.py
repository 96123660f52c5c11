"""Keeps a view of objects true to the API: a list, then watches, for as long as one likes."""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from typing import NoReturn, Protocol

from cloudstream.kube.api import ApiRefused, JsonObject, KubeApi
from streamkit.errors import LookupFailed
from streamkit.service.logs import RepeatLimiter

log = logging.getLogger(__name__)

_WATCH_SECONDS = (50, 70)
"""How long one watch lasts. A connection that is dead without a word costs no more than that."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0
"""Seconds between failures; an API that was away is noticed as soon as that."""
_TOLD_AGAIN = 600.0
"""Seconds between two log lines about the same failure."""
_PROVEN = 10.0
"""Seconds after which a watch was a good one. Others are not repeated without a pause."""
_PAGE = "250"
"""Objects in one answer: few enough that reading them holds up nobody."""
_GONE = 410


class Observer(Protocol):
    """Whoever keeps a view. Nothing here blocks or raises."""

    def listed(self, objects: list[JsonObject]) -> None:
        """These are all the objects; what was known before may be outdated in any way."""

    def watching(self) -> None:
        """From now on each change is told as it happens."""

    def changed(self, kind: str, item: JsonObject) -> None:
        """One object is new or another (``ADDED``, ``MODIFIED``) or gone (``DELETED``)."""

    def lost(self) -> None:
        """Changes may go unnoticed until ``watching`` is told again."""


class Pauses:
    """Growing pauses between attempts, in seconds, each with jitter: half to all of its step."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._step = first

    def next(self) -> float:
        """The next pause."""
        step, self._step = self._step, min(self._step * 2, self._longest)
        return random.uniform(step / 2, step)

    def reset(self) -> None:
        """Begin with the shortest again."""
        self._step = self._first


async def follow(
    api: KubeApi,
    path: str,
    observer: Observer,
    *,
    selectors: Mapping[str, str] | None = None,
    changes_only: bool = False,
) -> NoReturn:
    """Tell the observer of the collection at that path until cancelled; API errors end nothing.

    ``selectors`` are ``labelSelector`` and ``fieldSelector``. With ``changes_only`` the observer
    is told an empty list, and then what changes from that moment on.
    """
    follower = _Follower(api, path, observer, selectors or {}, changes_only)
    pauses = Pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
    limiter = RepeatLimiter(_TOLD_AGAIN)
    while True:
        begin = time.monotonic()
        is_well = True
        try:
            await follower.once()
        except LookupFailed as error:
            is_well = False
            if (repeats := limiter.admit(str(error))) is not None:
                log.warning("%s%s", error, repeats)
        if time.monotonic() - begin >= _PROVEN:
            pauses.reset()
            if is_well:
                continue
        observer.lost()
        await asyncio.sleep(pauses.next())


class _Follower:
    def __init__(
        self,
        api: KubeApi,
        path: str,
        observer: Observer,
        selectors: Mapping[str, str],
        changes_only: bool,
    ) -> None:
        self._api, self._path, self._observer = api, path, observer
        self._selectors = selectors
        self._changes_only = changes_only
        self._version = ""

    async def once(self) -> None:
        """One watch to its end, after a list where there is no place to begin at."""
        if not self._version:
            self._version = await self._list()
        query = {
            **self._selectors,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        seconds = random.randint(*_WATCH_SECONDS)
        try:
            async with self._api.watch(self._path, query, seconds=seconds) as events:
                self._observer.watching()
                async for event in events:
                    self._take(event)
        except ApiRefused as error:
            if error.status == _GONE:
                self._version = ""
            raise

    def _take(self, event: JsonObject) -> None:
        kind, item = event.get("type"), event.get("object")
        if not isinstance(kind, str) or not isinstance(item, dict):
            raise LookupFailed(f"the watch of {self._path} told no event")
        if kind == "ERROR":
            status = item.get("code")
            message = str(item.get("message") or "")
            raise ApiRefused(
                status if isinstance(status, int) else 500, f"the watch of {self._path}", message
            )
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            raise LookupFailed(f"the watch of {self._path} told no event")
        if version := metadata(item).get("resourceVersion"):
            self._version = str(version)
        if kind != "BOOKMARK":
            self._observer.changed(kind, item)

    async def _list(self) -> str:
        objects: list[JsonObject] = []
        query = {**self._selectors, "limit": "1" if self._changes_only else _PAGE}
        while True:
            page = await self._api.request("GET", self._path, query=query)
            items = page.get("items") or []
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise LookupFailed(f"the Kubernetes API listed no objects at {self._path}")
            objects += items
            more = metadata(page).get("continue")
            if self._changes_only or not more:
                break
            query["continue"] = str(more)
        self._observer.listed([] if self._changes_only else objects)
        return str(metadata(page).get("resourceVersion") or "0")


def metadata(item: JsonObject) -> JsonObject:
    """The object's metadata; empty where it has none."""
    found = item.get("metadata")
    return found if isinstance(found, dict) else {}
