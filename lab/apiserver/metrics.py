"""``kubectl top``: what metrics-server makes of the nodes' ``/metrics/resource`` pages.

Its rules hold here too, so that a page which would be of no use to it is of none here. A node
counts only if it shows CPU and memory; a pod is left out as a whole if one of its listed
containers shows none of the one or the other. Usage of CPU takes two looks at a counter: if there
has been none in the last ``FRESH`` seconds there are two now, and ``GAP`` seconds between any two.

Unlike metrics-server, whoever asks here has the API server's certificate too, and shows it where
no token is taken.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from lab.apiserver.call import Call
from lab.apiserver.kubelet import KubeletClient, KubeletPort
from lab.apiserver.kubeletwire import KubeletFailure
from lab.apiserver.selectors import make_selector
from lab.apiserver.status import ApiError, method_not_allowed, no_such_path, not_found
from lab.apiserver.store import Object, timestamp
from lab.apiserver.world import World
from streamkit.wire.exchange import RequestHead

GROUP = "metrics.k8s.io/v1beta1"
GAP = 1.0
FRESH = 60.0
SCRAPE_TIMEOUT = 10.0

_CPU, _MEMORY, _START = "cpu_usage_seconds_total", "memory_working_set_bytes", "start_time_seconds"

Key = tuple[str, str, str]
"""Namespace, pod and container name; all empty for the node itself."""
NODE: Key = ("", "", "")


@dataclass(slots=True)
class Point:
    """One look at one container or node: ``at`` is in seconds since 1970."""

    cpu_seconds: float = 0.0
    memory_bytes: float = 0.0
    at: float = 0.0


Sample = dict[Key, Point]


def parse_page(text: str, now: float) -> Sample:
    """The points on a page; raises ValueError if it is not in Prometheus's text format."""
    points: Sample = {}
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            scope, _, what = found.name.partition("_")
            if scope not in ("node", "container") or what not in (_CPU, _MEMORY, _START):
                continue
            label = found.labels
            key = (label.get("namespace", ""), label.get("pod", ""), label.get("container", ""))
            point = points.setdefault(key, Point())
            if what == _START:
                continue
            moment = float(found.timestamp) if found.timestamp else now
            point.at = max(point.at, moment)
            if what == _CPU:
                point.cpu_seconds = found.value
            else:
                point.memory_bytes = found.value
    return points


def usage(earlier: Sample, later: Sample, key: Key) -> Object | None:
    """CPU and memory as Quantities; None if there is no telling."""
    if key not in earlier or key not in later:
        return None
    old, new = earlier[key], later[key]
    if not (new.cpu_seconds and new.memory_bytes) or new.at <= old.at:
        return None
    if new.cpu_seconds < old.cpu_seconds:
        return None
    cores = (new.cpu_seconds - old.cpu_seconds) / (new.at - old.at)
    return {"cpu": f"{int(cores * 10**9)}n", "memory": f"{int(new.memory_bytes) // 1024}Ki"}


class MetricsServer:
    """Answers ``metrics.k8s.io``, scraping with a bearer token as metrics-server does."""

    def __init__(self, world: World, kubelets: KubeletClient, token: str) -> None:
        self._world, self._kubelets, self._token = world, kubelets, token
        self._last: dict[str, tuple[float, Sample]] = {}

    async def answer(self, call: Call, segments: list[str]) -> None:
        """Answer a request whose path below the group is in ``segments``; raises ApiError."""
        if call.head.method != "GET":
            raise method_not_allowed()
        match segments:
            case ["nodes", *names] if len(names) < 2:
                kind, items = "NodeMetrics", await self._nodes(names)
            case ["pods"]:
                kind, names, items = "PodMetrics", [], await self._pods("", [])
            case ["namespaces", namespace, "pods", *names] if len(names) < 2:
                kind, items = "PodMetrics", await self._pods(namespace, names)
            case _:
                raise no_such_path()
        if names:
            if not items:
                raise not_found(f"{kind.lower()}.{GROUP.partition('/')[0]}", names[0])
            await call.answer_json(items[0])
            return
        selected = make_selector(call.option("labelSelector"), call.option("fieldSelector"))
        listed = list(filter(selected, items))
        head = {"kind": f"{kind}List", "apiVersion": GROUP, "metadata": {}}
        await call.answer_json({**head, "items": listed})

    async def _nodes(self, names: list[str]) -> list[Object]:
        found = []
        for node in self._world.nodes:
            name = node["metadata"]["name"]
            if not names or name in names:
                earlier, later = await self._two_looks(name)
                if used := usage(earlier, later, NODE):
                    found.append(_metrics("NodeMetrics", node, later[NODE], usage=used))
        return found

    async def _pods(self, namespace: str, names: list[str]) -> list[Object]:
        await self._world.refresh_pods()
        looks: dict[str, tuple[Sample, Sample]] = {}
        found = []
        for pod in self._world.pods:
            place, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            node_name = pod["spec"].get("nodeName")
            if not node_name or namespace not in ("", place) or (names and name not in names):
                continue
            if node_name not in looks:
                looks[node_name] = await self._two_looks(node_name)
            earlier, later = looks[node_name]
            keys = [key for key in later if key[:2] == (place, name)]
            used = {key[2]: usage(earlier, later, key) for key in keys}
            if used and all(used.values()):
                containers = [{"name": each, "usage": what} for each, what in used.items()]
                point = later[keys[0]]
                found.append(_metrics("PodMetrics", pod, point, containers=containers))
        return found

    async def _two_looks(self, node_name: str) -> tuple[Sample, Sample]:
        """The look before and the present one; empty if the node shows nothing."""
        taken, earlier = self._last.get(node_name, (0.0, {}))
        if not earlier or time.monotonic() - taken > FRESH:
            taken, earlier = time.monotonic(), await self._scrape(node_name)
            if not earlier:
                return {}, {}
        await asyncio.sleep(taken + GAP - time.monotonic())
        later = await self._scrape(node_name)
        if later:
            self._last[node_name] = time.monotonic(), later
        return earlier, later

    async def _scrape(self, node_name: str) -> Sample:
        """The node's page; as the API server if whoever serves it takes no tokens."""
        token = ("Authorization", f"Bearer {self._token}")
        try:
            port = self._world.kubelet_port(node_name, resource="nodes")
            status, page = await self._fetch(port, token)
            if status == HTTPStatus.UNAUTHORIZED:
                status, page = await self._fetch(port)
            if status == HTTPStatus.OK:
                return parse_page(page.decode(), time.time())
        except (ApiError, KubeletFailure, TimeoutError, ValueError):
            pass  # a node that can't be scraped is one without metrics
        return {}

    async def _fetch(self, port: KubeletPort, *token: tuple[str, str]) -> tuple[int, bytes]:
        headers = (
            ("Host", port.netloc),
            ("User-Agent", "metrics-server"),
            ("Accept", "text/plain"),
            *token,
        )
        request = RequestHead("GET", "/metrics/resource", headers)
        async with (
            asyncio.timeout(SCRAPE_TIMEOUT),
            self._kubelets.fetch(port, request, with_certificate=not token) as answer,
        ):
            page = b"".join([chunk async for chunk in answer.chunks])
            return answer.head.status, page


def _metrics(kind: str, about: Object, point: Point, **fields: Any) -> Object:
    kept = ("name", "namespace", "labels")
    metadata = {key: value for key, value in about["metadata"].items() if key in kept}
    return {
        "kind": kind,
        "apiVersion": GROUP,
        "metadata": metadata,
        "timestamp": timestamp(datetime.fromtimestamp(point.at, UTC)),
        "window": f"{GAP}s",
        **fields,
    }
