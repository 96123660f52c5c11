"""``/metrics/cadvisor``: all that is known of the node, its pods and containers, for dashboards.

Every ``container_*`` sample has the labels ``container``, ``id``, ``image``, ``name``,
``namespace`` and ``pod``; ``id`` is a cgroup's path. As from a kubelet, the node's have only the id
``/``, those of a whole pod have no ``container``, and a pod's network is that of its sandbox, which
has an ``image`` and a ``name`` but no ``container`` either.
"""

from collections.abc import Iterable, Mapping, Sequence

from edgestream.kubelet.cadvisor_figures import DEVICES, FIGURES, NETWORK, SECOND, Kind
from edgestream.kubelet.exposition import Family
from edgestream.stats.collector import ROOT, ContainerFigures, NodeFigures, PodFigures
from edgestream.stats.procfs import InterfaceUsage, Machine
from edgestream.stats.usage import Usage

_Labels = Mapping[str, str]


def cadvisor_families(
    machine: Machine, node: NodeFigures, pods: Sequence[PodFigures], *, has_failed: bool
) -> Iterable[Family]:
    """The page's families; ``has_failed`` says that pods could not be had."""
    page = _Page(machine.devices)
    root = _labels(id=ROOT)
    page.add_usage(root, node.usage, started=node.boot_time)
    page.add_network(root, node.usage.at, node.interfaces)
    for pod in pods:
        _add_pod(page, pod)
    failed = Family("container_scrape_error", "gauge", "1 if pods could not be measured")
    failed.add(int(has_failed))
    return [*page.families.values(), *_machine_families(machine), failed]


class _Page:
    """Families by their names, each made when it is first needed."""

    def __init__(self, devices: Mapping[str, str]) -> None:
        self._devices = devices
        self.families: dict[str, Family] = {}

    def add_usage(self, labels: _Labels, usage: Usage, *, started: int | None) -> None:
        """Everything that cgroups tell."""
        for figure in FIGURES:
            family = self._family(figure.name, figure.kind, figure.text)
            family.add(figure.of(usage), labels, at=None if figure.is_setting else usage.at)
        if usage.cpu:
            family = self._family("cpu_usage_seconds_total", "counter", "Processor time in all")
            family.add(usage.cpu.total / SECOND, {**labels, "cpu": "total"}, at=usage.at)
        self._add_faults(labels, usage)
        self._add_devices(labels, usage)
        seen = self._family("last_seen", "gauge", "When it was last seen, in seconds since 1970")
        seen.add(usage.at // SECOND, labels, at=usage.at)
        if started is not None:
            start = self._family("start_time_seconds", "gauge", "When it was started")
            start.add(started // SECOND, labels)

    def add_network(
        self, labels: _Labels, at: int, interfaces: Iterable[InterfaceUsage] | None
    ) -> None:
        """What went through interfaces."""
        for interface in interfaces or ():
            named = {**labels, "interface": interface.name}
            for name, field in NETWORK:
                text = f"Network: {field.replace('_', ' ')}"
                self._family(f"network_{name}", "counter", text).add(
                    getattr(interface, field), named, at=at
                )

    def _add_faults(self, labels: _Labels, usage: Usage) -> None:
        family = self._family("memory_failures_total", "counter", "Page faults")
        if usage.memory:
            scope = {**labels, "scope": "hierarchy"}
            faults = usage.memory.page_faults, usage.memory.major_page_faults
            for kind, count in zip(("pgfault", "pgmajfault"), faults, strict=True):
                family.add(count, {**scope, "failure_type": kind}, at=usage.at)

    def _add_devices(self, labels: _Labels, usage: Usage) -> None:
        for device in usage.devices:
            named = {**labels, "device": self._devices.get(device.device, device.device)}
            for name, field in DEVICES:
                text = f"Block devices: {field.replace('_', ' ')}"
                self._family(f"fs_{name}", "counter", text).add(
                    getattr(device, field), named, at=usage.at
                )

    def _family(self, name: str, kind: Kind, text: str) -> Family:
        if name not in self.families:
            self.families[name] = Family(f"container_{name}", kind, text)
        return self.families[name]


def _add_pod(page: _Page, pod: PodFigures) -> None:
    sandbox, details = pod.running.sandbox, pod.running.details
    if pod.cgroup:
        labels = _labels(id=pod.cgroup, namespace=pod.namespace, pod=pod.name)
        page.add_usage(labels, pod.usage, started=sandbox.created_at)
    labels = _labels(
        id=details.cgroup or "",
        image=details.image,
        name=sandbox.id,
        namespace=pod.namespace,
        pod=pod.name,
    )
    page.add_network(labels, pod.usage.at, pod.interfaces)
    for container in pod.containers:
        started = container.running.container.created_at
        page.add_usage(_container_labels(pod, container), container.usage, started=started)


def _container_labels(pod: PodFigures, container: ContainerFigures) -> _Labels:
    details, container_id = container.running.details, container.running.container.id
    return _labels(
        container=container.name,
        id=details.cgroup or f"/{container_id}",
        image=details.image,
        name=container_id,
        namespace=pod.namespace,
        pod=pod.name,
    )


def _labels(
    *,
    id: str,
    container: str = "",
    image: str = "",
    name: str = "",
    namespace: str = "",
    pod: str = "",
) -> _Labels:
    return {
        "container": container,
        "id": id,
        "image": image,
        "name": name,
        "namespace": namespace,
        "pod": pod,
    }


def _machine_families(machine: Machine) -> Iterable[Family]:
    figures = {
        "machine_cpu_cores": ("Number of processors", machine.cpu_count),
        "machine_memory_bytes": ("Memory in all", machine.memory),
        "machine_swap_bytes": ("Swap in all", machine.swap),
    }
    for name, (text, value) in figures.items():
        family = Family(name, "gauge", text)
        family.add(value, {"boot_id": machine.boot_id})
        yield family
