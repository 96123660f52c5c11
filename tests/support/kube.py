"""The Kubernetes API in memory, behind the cloud's own seam: scripted answers, watches to feed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from cloudstream.kube.api import JSON, JsonObject

Answer = JsonObject | Exception | None
"""What a request gets: an object, an error, or (None) never anything."""


class FedWatch:
    """A watch whose events the test sends."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.query = query
        self._events: asyncio.Queue[Answer] = asyncio.Queue()

    def send(self, kind: str, item: JsonObject) -> None:
        self._events.put_nowait({"type": kind, "object": item})

    def fail(self, error: Exception) -> None:
        self._events.put_nowait(error)

    def end(self) -> None:
        self._events.put_nowait(None)

    async def events(self) -> AsyncIterator[JsonObject]:
        while event := await self._events.get():
            if isinstance(event, Exception):
                raise event
            yield event


@dataclass
class ScriptedKube:
    """A ``KubeApi``. ``answer`` decides what each request gets; ``requests`` records them."""

    answer: Callable[[str, str], Answer]
    requests: list[str] = field(default_factory=list)
    bodies: list[JsonObject | None] = field(default_factory=list)
    watches: list[FedWatch] = field(default_factory=list)
    watch_error: Exception | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, answers are held back."""
    closed: bool = False

    def __post_init__(self) -> None:
        self.released.set()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = JSON,
    ) -> JsonObject:
        self.requests.append(f"{method} {path}")
        self.bodies.append(body)
        found = self.answer(method, path)
        if found is None:
            await asyncio.Event().wait()
        if isinstance(found, Exception):
            raise found
        assert found is not None
        await self.released.wait()
        return found

    @contextlib.asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], *, seconds: int
    ) -> AsyncIterator[AsyncIterator[JsonObject]]:
        if self.watch_error:
            raise self.watch_error
        watch = FedWatch(query)
        self.watches.append(watch)
        yield watch.events()

    async def close(self) -> None:
        self.closed = True


def pod(name: str, node: str, *, namespace: str = "ns") -> JsonObject:
    """As much of a Pod as is read."""
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"nodeName": node}}


def pods_on(nodes: Mapping[str, str | Exception]) -> Callable[[str, str], Answer]:
    """Answers with pods by ``namespace/name``, whose nodes may change, and with empty lists."""

    def answer(method: str, path: str) -> Answer:
        parts = path.split("/")
        if parts[-2] != "pods":
            return {"metadata": {"resourceVersion": "1"}, "items": []}
        found = nodes[f"{parts[-3]}/{parts[-1]}"]
        return found if isinstance(found, Exception) else {"spec": {"nodeName": found}}

    return answer
