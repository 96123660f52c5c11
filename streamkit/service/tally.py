"""What a service has done since its start, in plain numbers: one look per request, none per byte.

Labels are bounded: kinds and wire versions are few, statuses are HTTP's, codes are the taxonomy's.
"""

import contextlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from prometheus_client.metrics_core import HistogramMetricFamily

from streamkit.errors import StreamError

_KINDS = {
    "containerLogs": "logs",
    "exec": "exec",
    "attach": "attach",
    "portForward": "portforward",
    "run": "run",
    "stats": "stats",
    "metrics": "metrics",
}
_STATUSES = frozenset(status.value for status in HTTPStatus)
_SECONDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)
_SHORT_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def kind_of(path: str) -> str:
    """The kind of a kubelet request, one of a few words."""
    return _KINDS.get(path.lstrip("/").partition("/")[0], "other")


def status_label(status: int) -> str:
    """The status, where HTTP knows it: a peer may send any number."""
    return str(status) if status in _STATUSES else "other"


class Durations:
    """A histogram of seconds."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: Iterable[str] = ()) -> None:
        """Put the histogram on a page."""
        total, buckets = 0, []
        names = [*(repr(bound) for bound in self._bounds), "+Inf"]
        for name, count in zip(names, self._counts, strict=True):
            total += count
            buckets.append((name, float(total)))
        family.add_metric(list(labels), buckets, self._sum)


def short_durations() -> Durations:
    """For what takes milliseconds to seconds."""
    return Durations(_SHORT_SECONDS)


class Exchange:
    """One request while it is answered; whoever answers it says with what ``status``."""

    def __init__(self) -> None:
        self.status = 0


@dataclass
class RequestTally:
    """Requests by kind, while they run and when they have ended."""

    live: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and HTTP status, 0 where nobody heard of one."""
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and error code."""
    seconds: dict[str, Durations] = field(default_factory=dict)

    @contextlib.contextmanager
    def request(self, path: str) -> Iterator[Exchange]:
        """Count a request for the length of the block; a StreamError that ends it is a failure."""
        kind, exchange, started = kind_of(path), Exchange(), time.monotonic()
        self.live[kind] += 1
        try:
            yield exchange
        except StreamError as error:
            self.failed[kind, error.code] += 1
            exchange.status = exchange.status or error.http_status or 500
            raise
        finally:
            self.live[kind] -= 1
            self.ended[kind, status_label(exchange.status)] += 1
            durations = self.seconds.setdefault(kind, Durations(_SECONDS))
            durations.observe(time.monotonic() - started)
