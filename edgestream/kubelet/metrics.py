"""``/metrics`` and the pages below it, for Prometheus and for metrics-server."""

import gzip
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from edgestream.answers import PLAIN_TEXT
from edgestream.kubelet.cadvisor_metrics import cadvisor_families
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.exposition import CONTENT_TYPE, Family, page
from edgestream.kubelet.health import Health
from edgestream.kubelet.reply import reply
from edgestream.kubelet.resource_metrics import resource_families
from edgestream.kubelet.router import Parameters, page_not_found
from edgestream.stats.collector import Collector, PodFigures
from edgestream.threads import Threads
from streamkit.errors import StreamError
from streamkit.wire.exchange import Headers, RequestHead, header_values


class Metrics:
    """The routes. Pages of the node are there even where its pods can't be had.

    ``proc_root`` is where this process finds its own figures.
    """

    def __init__(
        self,
        collector: Collector,
        threads: Threads,
        health: Health,
        *,
        node_name: str,
        proc_root: Path,
    ) -> None:
        self._collector = collector
        self._threads = threads
        self._health = health
        self._node_name = node_name
        self._started = int(time.time())
        self._process = CollectorRegistry()
        ProcessCollector(proc=str(proc_root), registry=self._process)
        self._pages = {
            "": self._own,
            "cadvisor": self._cadvisor,
            "probes": self._probes,
            "resource": self._resource,
            "slis": self._slis,
        }

    async def report(self, exchange: Exchange, parameters: Parameters) -> None:
        """The page that the path names, packed for callers who take that.

        Raises a KubeletAnswer for other pages, BackendError where files take too long.
        """
        name = parameters.get("page", "")
        make = self._pages.get(name)
        if make is None:
            raise page_not_found()
        if name == "slis" and exchange.request.method == "DELETE":
            self._health.reset()
            await reply(exchange, b"metrics reset\n", PLAIN_TEXT)
            return
        body = await make()
        headers: Headers = (
            ("Content-Type", CONTENT_TYPE),
            ("Process-Start-Time-Unix", str(self._started)),
        )
        if _takes_gzip(exchange.request):
            body = await self._threads.run(gzip.compress, body, mtime=0)
            headers = (*headers, ("Content-Encoding", "gzip"))
        await reply(exchange, body, headers)

    async def _own(self) -> bytes:
        """This process, and how much it looks after."""
        name = Family("kubelet_node_name", "gauge", "[ALPHA] The node's name")
        name.add(1, {"node": self._node_name})
        families = [name]
        try:
            running = await self._collector.inventory.running()
        except StreamError:
            pass  # how many there are is not known then
        else:
            pods = Family("kubelet_running_pods", "gauge", "[ALPHA] Number of running pods")
            pods.add(len(running))
            containers = Family(
                "kubelet_running_containers", "gauge", "[ALPHA] Number of running containers"
            )
            count = sum(len(pod.containers) for pod in running)
            containers.add(count, {"container_state": "running"})
            families += [pods, containers]
        return page(families) + await self._threads.run(generate_latest, self._process)

    async def _resource(self) -> bytes:
        node = await self._collector.node()
        pods = await self._pods()
        families = partial(resource_families, node, pods or (), has_failed=pods is None)
        return await self._threads.run(_make_page, families)

    async def _cadvisor(self) -> bytes:
        node = await self._collector.node()
        pods = await self._pods()
        machine = await self._threads.run(self._collector.proc.machine)
        families = partial(cadvisor_families, machine, node, pods or (), has_failed=pods is None)
        return await self._threads.run(_make_page, families)

    async def _probes(self) -> bytes:
        """Nothing: probes are the business of whoever starts the containers."""
        return b""

    async def _slis(self) -> bytes:
        return page(_health_families(self._health))

    async def _pods(self) -> Sequence[PodFigures] | None:
        try:
            return await self._collector.pods()
        except StreamError:
            return None


def _make_page(families: Callable[[], Iterable[Family]]) -> bytes:
    """A page that is long enough to hold up others while it is made."""
    return page(families())


def _health_families(health: Health) -> Iterable[Family]:
    last = Family("kubernetes_healthcheck", "gauge", "[STABLE] 1 if the check passed last, else 0")
    for name, has_passed in health.outcomes.items():
        last.add(int(has_passed), {"name": name, "type": "healthz"})
    total = Family("kubernetes_healthchecks_total", "counter", "[STABLE] How checks went so far")
    for (name, has_passed), count in health.counts.items():
        status = "success" if has_passed else "error"
        total.add(count, {"name": name, "status": status, "type": "healthz"})
    return last, total


def _takes_gzip(request: RequestHead) -> bool:
    accepted = ",".join(header_values(request.headers, "accept-encoding")).split(",")
    names = (each.replace(" ", "").lower().partition(";") for each in accepted)
    return any(name == "gzip" and weight not in ("q=0", "q=0.0") for name, _, weight in names)
