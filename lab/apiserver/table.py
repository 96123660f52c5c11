"""Tables, which is how kubectl asks for what it prints as columns."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from lab.apiserver.store import Object

_Row = Callable[[Object], list[Any]]

_NAME, _AGE = ("Name", 0), ("Age", 0)
_COLUMNS: dict[str, tuple[tuple[str, int], ...]] = {
    "Pod": (
        _NAME,
        ("Ready", 0),
        ("Status", 0),
        ("Restarts", 0),
        _AGE,
        ("IP", 1),
        ("Node", 1),
        ("Nominated Node", 1),
        ("Readiness Gates", 1),
    ),
    "Node": (_NAME, ("Status", 0), ("Roles", 0), _AGE, ("Version", 0), ("Internal-IP", 1)),
    "ConfigMap": (_NAME, ("Data", 0), _AGE),
    "Namespace": (_NAME, ("Status", 0), _AGE),
}
"""Column names, and the priority from which on they are shown (1: only with ``-o wide``)."""

_ROLE_LABEL = "node-role.kubernetes.io/"


def make_table(kind: str, items: Iterable[Object], version: str, *, whole: bool) -> Object:
    """The objects as a Table; ``whole`` rows carry the object, others its metadata only."""
    rows = []
    for item in items:
        partial = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": item["metadata"],
        }
        rows.append({"cells": _CELLS[kind](item), "object": item if whole else partial})
    columns = [
        {
            "name": name,
            "type": "string",
            "format": "name" if name == "Name" else "",
            "description": name,
            "priority": priority,
        }
        for name, priority in _COLUMNS[kind]
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns,
        "rows": rows,
    }


def _pod_cells(pod: Object) -> list[Any]:
    status = pod.get("status", {})
    containers: Sequence[Object] = status.get("containerStatuses", ())
    ready = sum(bool(each.get("ready")) for each in containers)
    restarts = sum(each.get("restartCount", 0) for each in containers)
    total = len(pod.get("spec", {}).get("containers", ()))
    return [
        pod["metadata"]["name"],
        f"{ready}/{total}",
        _pod_status(status),
        str(restarts),
        _age(pod),
        status.get("podIP") or "<none>",
        pod["spec"].get("nodeName") or "<none>",
        "<none>",
        "<none>",
    ]


def _pod_status(status: Object) -> str:
    """The phase, or what the first container that does not run has to say."""
    for container in status.get("containerStatuses", ()):
        for kind in ("waiting", "terminated"):
            if reason := container.get("state", {}).get(kind, {}).get("reason"):
                return str(reason)
    return str(status.get("phase", "Unknown"))


def _node_cells(node: Object) -> list[Any]:
    labels = node["metadata"].get("labels") or {}
    status = node.get("status", {})
    roles = sorted(label[len(_ROLE_LABEL) :] for label in labels if label.startswith(_ROLE_LABEL))
    ready = any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in status.get("conditions", ())
    )
    address = next(
        (each["address"] for each in status.get("addresses", ()) if each["type"] == "InternalIP"),
        "<none>",
    )
    version = status.get("nodeInfo", {}).get("kubeletVersion", "")
    return [
        node["metadata"]["name"],
        "Ready" if ready else "NotReady",
        ",".join(roles) or "<none>",
        _age(node),
        version,
        address,
    ]


def _config_map_cells(config_map: Object) -> list[Any]:
    return [
        config_map["metadata"]["name"],
        len(config_map.get("data") or ()) + len(config_map.get("binaryData") or ()),
        _age(config_map),
    ]


def _namespace_cells(namespace: Object) -> list[Any]:
    phase = namespace.get("status", {}).get("phase", "Active")
    return [namespace["metadata"]["name"], phase, _age(namespace)]


_CELLS: dict[str, _Row] = {
    "Pod": _pod_cells,
    "Node": _node_cells,
    "ConfigMap": _config_map_cells,
    "Namespace": _namespace_cells,
}


def _age(item: Object) -> str:
    """How long ago the object was made, in the largest unit that gives two or more."""
    made = datetime.fromisoformat(item["metadata"]["creationTimestamp"])
    seconds = int((datetime.now(UTC) - made).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"
