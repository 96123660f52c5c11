"""What metrics-server gets from a page at ``/metrics/resource``: its own reading, and its rules.

It looks for labels as pieces of text, takes the later of two times for a container's, and drops a
pod if one of its containers shows nothing of processors or of memory, even by its start alone.
"""

import re
from dataclasses import dataclass

_LINE = re.compile(r"(?P<name>[a-z_]+)(?P<labels>\{.*\})? (?P<value>\S+)(?: (?P<time>-?\d+))?")


@dataclass(slots=True)
class Point:
    """One look at a node or a container: times are milliseconds since 1970, but for the start."""

    cpu_seconds: float = 0.0
    memory_bytes: float = 0.0
    time: int = 0
    start_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """What is kept of a page: containers by pod (namespace and name) and name."""

    node: Point | None
    pods: dict[tuple[str, str], dict[str, Point]]


def read_page(page: bytes) -> Scrape:
    """Read a page; fails an assertion for a line that is none, or a figure without a time."""
    node = Point()
    pods: dict[tuple[str, str], dict[str, Point]] = {}
    for line in page.decode().splitlines():
        if line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        assert found, line
        scope, _, figure = found["name"].partition("_")
        if scope == "node":
            _put(node, figure, found)
        elif scope == "container":
            labels = found["labels"]
            pod = _label(labels, 'namespace="'), _label(labels, 'pod="')
            point = pods.setdefault(pod, {}).setdefault(_label(labels, 'container="'), Point())
            _put(point, figure, found)
    whole = {pod: points for pod, points in pods.items() if all(map(_is_shown, points.values()))}
    return Scrape(node if _is_shown(node) else None, whole)


def _put(point: Point, figure: str, found: re.Match[str]) -> None:
    value = float(found["value"])
    if figure == "start_time_seconds":
        assert found["time"] is None
        point.start_seconds = value
        return
    assert found["time"], found[0]
    if figure == "cpu_usage_seconds_total":
        point.cpu_seconds = value
    elif figure == "memory_working_set_bytes":
        point.memory_bytes = value
    else:
        return
    time = int(found["time"])
    assert point.time in (0, time), "processors and memory are of different times"
    point.time = time


def _label(labels: str, mark: str) -> str:
    _, found, rest = labels.partition(mark)
    assert found
    return rest.partition('"')[0]


def _is_shown(point: Point) -> bool:
    return bool(point.cpu_seconds and point.memory_bytes and point.time)
