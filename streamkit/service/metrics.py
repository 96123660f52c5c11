"""What both services' metrics have in common. They are gathered when somebody asks for them."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import GC_COLLECTOR, CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamkit.service.cli import version
from streamkit.service.tally import RequestTally


class _Gathered(Collector):
    def __init__(self, gather: Callable[[], Iterable[Metric]]) -> None:
        self._gather = gather

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._gather()


def metrics_registry(gather: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    """A registry of a service's own metrics and of what is known of any Python process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gathered(gather))
    registry.register(GC_COLLECTOR)
    ProcessCollector(registry=registry)
    return registry


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A metric without labels."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """A metric with one label."""
    family = GaugeMetricFamily(name, text, labels=(label,))
    for word, value in values.items():
        family.add_metric((word,), value)
    return family


def counter(
    name: str, text: str, labels: tuple[str, ...], counts: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily:
    """A counter; the page calls it ``<name>_total``."""
    family = CounterMetricFamily(name, text, labels=labels)
    for words, value in counts:
        family.add_metric(words, value)
    return family


def request_metrics(prefix: str, tally: RequestTally) -> Iterator[Metric]:
    """What is counted of requests."""
    yield gauges(
        f"{prefix}_channels", "Requests that are being answered.", "kind", dict(tally.live)
    )
    yield counter(
        f"{prefix}_requests",
        "Requests that have ended, by the HTTP status of their answer.",
        ("kind", "status"),
        tally.ended.items(),
    )
    yield counter(
        f"{prefix}_channel_failures",
        "Requests that an error ended, by its code.",
        ("kind", "code"),
        tally.failed.items(),
    )
    family = HistogramMetricFamily(
        f"{prefix}_request_duration_seconds", "How long requests took.", labels=("kind",)
    )
    for kind, durations in tally.seconds.items():
        durations.add_to(family, (kind,))
    yield family


def build_metrics(prefix: str) -> Iterator[Metric]:
    """What runs here."""
    build = GaugeMetricFamily(
        f"{prefix}_build_info", "Always 1; the labels tell.", labels=("version", "python")
    )
    build.add_metric((version(), platform.python_version()), 1)
    yield build
