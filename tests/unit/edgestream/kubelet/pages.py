"""Asking a backend on a scripted node for pages."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from edgestream.kubelet.cri_backend import CriBackend
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead, header_values
from tests.support.exchange import ask
from tests.support.node import ScriptedNode
from tests.support.runtime import serving

LIMIT = DEADLINE = 5.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Pages:
    """A backend, and how its answers are looked at."""

    def __init__(self, backend: CriBackend) -> None:
        self._backend = backend

    async def ask(
        self, target: str, method: str = "GET", headers: Headers = ()
    ) -> tuple[ResponseHead, bytes]:
        """The answer, in full."""
        async with asyncio.timeout(LIMIT):
            head, body = await ask(self._backend, RequestHead(method, target, headers))
        if method != "HEAD" and (length := header_values(head.headers, "content-length")):
            assert length == [str(len(body))]
        return head, body

    async def get(self, target: str) -> bytes:
        """The body of a good answer."""
        head, body = await self.ask(target)
        assert head.status == 200, body
        return body

    async def get_json(self, target: str) -> Any:
        """A good answer's document."""
        head, body = await self.ask(target)
        assert head.status == 200, body
        assert header_values(head.headers, "content-type") == ["application/json"]
        return json.loads(body)

    async def get_metrics(self, target: str) -> dict[str, Metric]:
        """A good answer's families by name, as Prometheus reads them."""
        head, body = await self.ask(target)
        assert head.status == 200, body
        assert header_values(head.headers, "content-type") == [METRICS_TYPE]
        (started,) = header_values(head.headers, "process-start-time-unix")
        assert int(started) > 1_700_000_000
        return {each.name: each for each in text_string_to_metric_families(body.decode())}


@asynccontextmanager
async def pages_of(node: ScriptedNode, socket: Path) -> AsyncIterator[Pages]:
    """The pages of that node, whose runtime serves on the socket."""
    async with serving(node.runtime, socket):
        backend = CriBackend(
            f"unix://{socket}", call_deadline=DEADLINE, dial_deadline=DEADLINE, node=node.facts
        )
        yield Pages(backend)
        await backend.close()


def values(family: Metric, *names: str) -> dict[tuple[str, ...], float]:
    """The samples' values by the values of these labels."""
    return {tuple(each.labels[name] for name in names): each.value for each in family.samples}
