"""Where pods run, and how they fare: bounded memory in front of the API, kept true by a watch.

A pod's node is asked once. While a watch is on, nothing but a change of the pod makes the next
request ask again; where there is no watch (not allowed, or the API is away), what was asked counts
for a few seconds, and for as long as the API is away.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from cloudstream.kube.api import ApiRefused, JsonObject, KubeApi, api_path
from cloudstream.kube.duty import DutyStatus
from cloudstream.kube.follow import follow, metadata
from cloudstream.kube.pod_facts import facts_of_pod
from streamkit.errors import LookupFailed, PodNotFound, PodNotScheduled, StreamError
from streamkit.service.logs import RepeatLimiter
from streamkit.service.tasks import spawn
from streamkit.wire.pod_facts import PodFacts

log = logging.getLogger(__name__)

_CACHE_SIZE = 10_000
_FRESH = 10.0
"""Seconds for which a pod's node is taken from memory without a watch."""
_AWAY = 5.0
"""Seconds after a failure for which known pods are not asked for."""
_PATIENCE = 1.0
"""Seconds for which a request for a known pod waits, to have the latest: then memory has to do."""
_IDLE = 600.0
"""Seconds without a lookup after which the watch ends until somebody asks again."""

_Key = tuple[str, str]


@dataclass(slots=True)
class _Known:
    node_name: str
    read_at: float
    """Monotonic; minus infinity: to be asked again, and kept for an outage only."""
    view: int | None
    """The view whose watch would have told of a change; None: none would."""
    facts: PodFacts | None


@dataclass(slots=True)
class _Reading:
    task: "asyncio.Task[str | StreamError]"
    disturbed: bool = field(default=False)
    """Whether the pod changed meanwhile: what is read may be older than that."""


class PodDirectory:
    """Where pods run. ``run`` keeps the watch; without it everything is asked for more often."""

    def __init__(self, api: KubeApi, *, deadline: float) -> None:
        self._api = api
        self._deadline = deadline
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._readings: dict[_Key, _Reading] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._failed_at: float | None = None
        """When the API failed to answer last; None once it has answered again."""
        self._view = 0
        self._is_watching = False
        self._asked = asyncio.Event()
        self._idle: asyncio.Timeout | None = None
        self._limiter = RepeatLimiter()

    async def run(self) -> None:
        """Watch pods while anybody asks for them, until cancelled."""
        while True:
            await self._asked.wait()
            try:
                async with asyncio.timeout(_IDLE) as self._idle:
                    pods = api_path("api", "v1", "pods")
                    selectors = {"fieldSelector": "spec.nodeName!="}
                    await follow(self._api, pods, self, selectors=selectors, changes_only=True)
            except TimeoutError:
                self._asked.clear()
            finally:
                self._idle = None
                self.lost()

    def status(self) -> DutyStatus:
        """Whether changes of pods are seen."""
        known = f"{len(self._known)} pods are known"
        if self._failed_at is not None:
            return DutyStatus(1, f"the Kubernetes API does not answer; {known} from memory")
        if not self._asked.is_set():
            return DutyStatus(0, "nobody asks for pods")
        if not self._is_watching:
            return DutyStatus(1, f"pods are not watched; {known} for {_FRESH:g} s each")
        return DutyStatus(0, f"{known}, and watched")

    async def node_of(self, namespace: str, name: str) -> str:
        """The name of the pod's node.

        While the API is away, what was known last is still used. Raises PodNotFound,
        PodNotScheduled or LookupFailed.
        """
        self._note_use()
        key = (namespace, name)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            if self._is_current(known):
                return known.node_name
            if self._failed_at is not None:
                # Nobody waits again for an API that failed; whether it is back is asked beside.
                if time.monotonic() - self._failed_at >= _AWAY:
                    self._read(key)
                return self._from_memory(key, known)
        task = self._read(key)
        if known is not None and not (await asyncio.wait({task}, timeout=_PATIENCE))[0]:
            return self._from_memory(key, known)
        # Whoever asked first may go away; the others still wait for the answer.
        found = await asyncio.shield(task)
        if isinstance(found, str):
            return found
        if isinstance(found, LookupFailed) and known is not None:
            return self._from_memory(key, known)
        raise found

    def facts_of(self, namespace: str, name: str, node: str, *, since: float) -> PodFacts | None:
        """What is known of a pod that runs on that node; None of any other.

        The facts are current if a watch would have told of a change, or if they have been asked for
        ``since`` that time, which is monotonic.
        """
        known = self._known.get((namespace, name))
        if known is None or known.facts is None or known.node_name != node:
            return None
        is_current = self._is_watched(known) or known.read_at >= since
        return replace(known.facts, is_current=is_current)

    def doubt(self, namespace: str, name: str) -> None:
        """What is known of the pod may be old: ask again next time, but keep it for an outage."""
        if known := self._known.get((namespace, name)):
            known.read_at, known.view = float("-inf"), None

    async def close(self) -> None:
        """End what is being asked. Idempotent."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- the watch ----------------------------------------------------------------------------

    def listed(self, objects: list[JsonObject]) -> None:
        """Changes before this moment may have been missed."""
        self._view += 1

    def watching(self) -> None:
        """Changes since the last ``listed`` are told."""
        self._is_watching = True
        self._failed_at = None

    def changed(self, kind: str, item: JsonObject) -> None:
        """A pod changed; most of the time it stays where it is."""
        fields = metadata(item)
        key = (str(fields.get("namespace")), str(fields.get("name")))
        if reading := self._readings.get(key):
            reading.disturbed = True
        known = self._known.get(key)
        if known is None:
            return
        spec = item.get("spec")
        node_name = spec.get("nodeName") if isinstance(spec, dict) else None
        if kind == "DELETED" or node_name != known.node_name:
            self.doubt(*key)
        else:
            known.facts = facts_of_pod(item)

    def lost(self) -> None:
        """Changes are not told for now."""
        self._is_watching = False

    # -- reading ------------------------------------------------------------------------------

    def _note_use(self) -> None:
        self._asked.set()
        if self._idle:
            self._idle.reschedule(asyncio.get_running_loop().time() + _IDLE)

    def _is_current(self, known: _Known) -> bool:
        return self._is_watched(known) or time.monotonic() - known.read_at < _FRESH

    def _is_watched(self, known: _Known) -> bool:
        return self._is_watching and known.view == self._view

    def _from_memory(self, key: _Key, known: _Known) -> str:
        if (repeats := self._limiter.admit("away")) is not None:
            log.warning(
                "the Kubernetes API is away: pod %s/%s is found from memory%s", *key, repeats
            )
        return known.node_name

    def _read(self, key: _Key) -> "asyncio.Task[str | StreamError]":
        """One question for all who want to know at the same time."""
        reading = self._readings.get(key)
        if reading is None:
            task = spawn(self._ask(key), name="pod lookup", owner=self._tasks)
            reading = self._readings[key] = _Reading(task)
        return reading.task

    async def _ask(self, key: _Key) -> str | StreamError:
        view = self._view if self._is_watching else None
        try:
            async with asyncio.timeout(self._deadline):
                node_name, facts = await self._pod(*key)
        except TimeoutError:
            self._failed_at = time.monotonic()
            return LookupFailed("the Kubernetes API did not answer in time")
        except LookupFailed as error:
            self._failed_at = time.monotonic()
            return error
        except PodNotFound as error:
            self._known.pop(key, None)
            return error
        finally:
            reading = self._readings.pop(key)
        self._failed_at = None
        if not node_name:
            return PodNotScheduled(f'pod "{key[1]}" in namespace "{key[0]}" has no node yet')
        self._remember(key, _Known(node_name, time.monotonic(), view, facts))
        if reading.disturbed:
            self.doubt(*key)
        return node_name

    def _remember(self, key: _Key, known: _Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)

    async def _pod(self, namespace: str, name: str) -> tuple[str, PodFacts | None]:
        missing = PodNotFound(f'pod "{name}" does not exist in namespace "{namespace}"')
        try:
            path = api_path("api", "v1", "namespaces", namespace, "pods", name)
        except ValueError:
            raise missing from None
        try:
            pod = await self._api.request("GET", path)
            return str(pod["spec"].get("nodeName") or ""), facts_of_pod(pod)
        except ApiRefused as error:
            if error.status == 404:
                raise missing from error
            raise
        except (KeyError, TypeError, AttributeError) as error:
            raise LookupFailed("the Kubernetes API answered no Pod") from error
