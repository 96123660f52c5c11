"""The kubelet service, served from a container runtime and the node's own files."""

from dataclasses import dataclass
from pathlib import Path

from edgestream.cri.client import MEASURE_DEADLINE, CriClient
from edgestream.kubelet.configz import Configz
from edgestream.kubelet.container_logs import ContainerLogs
from edgestream.kubelet.debugging import refuse_debugging
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.health import Health
from edgestream.kubelet.metrics import Metrics
from edgestream.kubelet.node_logs import NodeLogs
from edgestream.kubelet.pod_network import PodNetworks
from edgestream.kubelet.pods import Pods
from edgestream.kubelet.port_forward import PortForward
from edgestream.kubelet.remote_command import RemoteCommand
from edgestream.kubelet.router import Route, Router
from edgestream.kubelet.single_calls import SingleCalls
from edgestream.kubelet.summary import Summary
from edgestream.logs.watch import LogWatcher
from edgestream.stats.collector import Collector
from edgestream.threads import Threads

_POD = ("namespace", "pod")
_CONTAINER = (*_POD, "container")
_CONTAINER_OF_UID = (*_POD, "uid", "container")


FILE_DEADLINE = 10.0
"""Seconds for one look into a directory, or one piece of a file."""

THREADS = 4
"""How many slow files may be read at once, for statistics and for the node's logs each."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the node is called, and where its files are.

    ``root_directory`` is the kubelet's, ``log_directory`` is served at ``/logs/`` if there is one.
    """

    name: str = ""
    root_directory: Path = Path("/var/lib/kubelet")
    log_directory: Path | None = None
    cgroup_root: Path = Path("/sys/fs/cgroup")
    proc_root: Path = Path("/proc")


class CriBackend:
    """A ``KubeletHandler`` that answers from the runtime on ``endpoint`` and from files.

    ``call_deadline`` is for one call to the runtime, ``dial_deadline`` for its streaming server to
    answer, both in seconds. The runtime need not be there yet, and may go and come back.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        call_deadline: float,
        dial_deadline: float,
        node: NodeFacts = NodeFacts(),
    ) -> None:
        self._client = CriClient(endpoint, call_deadline=call_deadline)
        self._watcher = LogWatcher()
        self._networks = PodNetworks(self._client)
        self._stat_threads = Threads("measuring", count=THREADS, deadline=MEASURE_DEADLINE)
        self._log_threads = Threads("reading a file", count=THREADS, deadline=FILE_DEADLINE)
        config = Configz(
            endpoint=endpoint,
            call_deadline=call_deadline,
            has_node_logs=node.log_directory is not None,
        )
        self._router = Router(
            [
                *self._container_routes(dial_deadline, node),
                *self._node_routes(node),
                Route("configz", ((),), (), config.show, exact=True),
                Route("debug", ((), ("*page",)), (), refuse_debugging),
            ]
        )

    def _container_routes(self, dial_deadline: float, node: NodeFacts) -> list[Route]:
        logs = ContainerLogs(self._client, self._watcher)
        command = RemoteCommand(self._client, dial_deadline=dial_deadline)
        ports = PortForward(self._client, self._networks, dial_deadline=dial_deadline)
        checkpoints = node.root_directory / "checkpoints"
        calls = SingleCalls(self._client, checkpoint_directory=checkpoints)
        shapes = (_CONTAINER, _CONTAINER_OF_UID)
        return [
            Route("containerLogs", (_CONTAINER,), ("GET",), logs.read),
            Route("exec", shapes, ("GET", "POST"), command.execute),
            Route("attach", shapes, ("GET", "POST"), command.attach),
            Route("portForward", (_POD, (*_POD, "uid")), ("GET", "POST"), ports.forward),
            Route("run", shapes, ("POST",), calls.run),
            Route("checkpoint", (_CONTAINER,), ("POST",), calls.checkpoint),
        ]

    def _node_routes(self, node: NodeFacts) -> list[Route]:
        threads = self._stat_threads
        health = Health(self._client)
        collector = Collector(
            self._client, threads, cgroup_root=node.cgroup_root, proc_root=node.proc_root
        )
        summary = Summary(
            self._client,
            collector,
            threads,
            node_name=node.name,
            root_directory=node.root_directory,
        )
        metrics = Metrics(collector, threads, health, node_name=node.name, proc_root=node.proc_root)
        pods = Pods(self._client, node_name=node.name)
        logs = NodeLogs(node.log_directory, self._log_threads)
        log_methods = ("GET",) if node.log_directory else ()
        return [
            Route("healthz", ((), ("check",)), (), health.report, exact=True),
            Route("pods", ((),), ("GET",), pods.list_all),
            Route("runningpods", ((),), ("GET",), pods.list_running, directory=True),
            Route("stats", (("=summary",),), ("GET", "POST"), summary.report),
            Route("metrics", ((), ("page",)), (), metrics.report, exact=True),
            Route("logs", ((), ("*path",)), log_methods, logs.serve, directory=True),
        ]

    async def check(self) -> None:
        """Raise RuntimeUnavailable where the runtime does not answer, within a call's deadline."""
        await self._client.version()

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request as a kubelet does.

        Cancelling drops what was opened for it: files, the runtime's stream, a call under way.
        """
        await self._router.serve(exchange)

    async def close(self) -> None:
        """Close the runtime's connection and stop watching logs. Idempotent."""
        self._stat_threads.close()
        self._log_threads.close()
        self._networks.close()
        await self._watcher.close()
        await self._client.close()
