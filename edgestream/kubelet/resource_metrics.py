"""``/metrics/resource``: processors and memory, as metrics-server and autoscalers read them.

Readers take a container that is on the page with one figure of zero, or with its start alone, for a
reason to leave out its whole pod. So a container is here with all that they read, or not at all.
"""

from collections.abc import Iterable, Sequence

from edgestream.kubelet.exposition import Family
from edgestream.stats.collector import NodeFigures, PodFigures
from edgestream.stats.usage import Usage

_SECOND = 10**9


def resource_families(
    node: NodeFigures, pods: Sequence[PodFigures], *, has_failed: bool
) -> Iterable[Family]:
    """The page's families. Each object's processors and memory are of the same moment.

    Of pods of the same name, the newest is shown. ``has_failed`` says that pods could not be had.
    """
    containers, starts = _Usages("container"), _starts()
    nodes, whole_pods = _Usages("node"), _Usages("pod")
    nodes.add(node.usage, {})
    for pod in pods:
        named = {"namespace": pod.namespace, "pod": pod.name}
        whole_pods.add(pod.usage, named)
        for container in pod.containers:
            labels = {"container": container.name, **named}
            if containers.add(container.usage, labels):
                starts.add(container.running.container.created_at / _SECOND, labels)
    error = Family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if pods and containers could not be measured, 0 otherwise",
    )
    error.add(int(has_failed))
    return [*nodes.families, *containers.families, starts, *whole_pods.families, error]


class _Usages:
    """The three families of one scope: of nodes, of pods or of containers."""

    def __init__(self, scope: str) -> None:
        self._cpu = Family(
            f"{scope}_cpu_usage_seconds_total",
            "counter",
            f"[STABLE] Processor time that the {scope} has used so far, in core-seconds",
        )
        self._memory = Family(
            f"{scope}_memory_working_set_bytes",
            "gauge",
            f"[STABLE] Working set of the {scope}, in bytes",
        )
        self._swap = Family(
            f"{scope}_swap_usage_bytes",
            "gauge",
            f"[ALPHA] Memory of the {scope} that is swapped out, in bytes",
        )
        self.families = (self._cpu, self._memory, self._swap)

    def add(self, usage: Usage, labels: dict[str, str]) -> bool:
        """Add all of it if there is something of both, and say whether there is."""
        if not (usage.cpu and usage.cpu.total and usage.memory and usage.memory.working_set):
            return False
        self._cpu.add(usage.cpu.total / _SECOND, labels, at=usage.at)
        self._memory.add(usage.memory.working_set, labels, at=usage.at)
        self._swap.add(usage.memory.swap, labels, at=usage.at)
        return True


def _starts() -> Family:
    return Family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] When the container was started, in seconds since 1970",
    )
