"""What both services' metrics have in common. They are gathered when somebody asks for them."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import GC_COLLECTOR, CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamkit.pki.inspect import inspect_file
from streamkit.service.cli import version
from streamkit.service.health import OK, Check, Outcome, Verdict
from streamkit.service.tally import RequestTally

_RENEWAL = 7 * 86400.0
"""Seconds before a certificate's end from which on it is told."""


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


def service_metrics(prefix: str, expiries: Mapping[str, float]) -> Iterator[Metric]:
    """Version and certificates."""
    build = GaugeMetricFamily(
        f"{prefix}_build_info", "Always 1; the labels tell.", labels=("version", "python")
    )
    build.add_metric((version(), platform.python_version()), 1)
    yield build
    yield gauges(
        f"{prefix}_certificate_expiry_timestamp_seconds",
        "When a certificate in use expires, in seconds since 1970.",
        "role",
        expiries,
    )


def expiries(files: Mapping[str, Path]) -> dict[str, float]:
    """When the certificates in use expire, by role, in seconds since 1970.

    Of a file with several the last to expire counts, as for whoever checks against them. Raises
    CertMissing, CertInvalid.
    """
    return {
        role: max(
            each.not_after.timestamp()
            for each in inspect_file(path)[: None if role.endswith("ca") else 1]
        )
        for role, path in files.items()
    }


def certificate_check(expiries: Mapping[str, float]) -> Check:
    """Failed while a certificate has expired, pending while one is about to."""

    async def check() -> Outcome:
        now = time.time()
        ends = sorted((end, role) for role, end in expiries.items())
        if not ends or (left := ends[0][0] - now) > _RENEWAL:
            return OK
        role, days = ends[0][1], int(left // 86400)
        if left <= 0:
            return Outcome(Verdict.FAILED, f"the certificate {role} has expired")
        return Outcome(Verdict.PENDING, f"the certificate {role} expires in {days} days")

    return check
