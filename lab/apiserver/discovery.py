"""What the server says of itself: version, health, the APIs there are."""

from typing import Any

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2",
    "gitCommit": "lab",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}
HEALTH_PATHS = ("/healthz", "/livez", "/readyz")

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "get", "list", "patch", "update", "watch"]


def _resource(name: str, kind: str, verbs: list[str], **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"namespaced": True, "singularName": "", **more}
    return {"name": name, "kind": kind, "verbs": verbs, **fields}


_CORE = [
    _resource("configmaps", "ConfigMap", _WRITE, shortNames=["cm"], singularName="configmap"),
    _resource(
        "namespaces",
        "Namespace",
        _WRITE,
        shortNames=["ns"],
        singularName="namespace",
        namespaced=False,
    ),
    _resource("nodes", "Node", _WRITE, shortNames=["no"], singularName="node", namespaced=False),
    _resource("nodes/proxy", "NodeProxyOptions", _WRITE[:2], namespaced=False),
    _resource("nodes/status", "Node", ["get", "patch", "update"], namespaced=False),
    _resource("pods", "Pod", _READ, shortNames=["po"], singularName="pod", categories=["all"]),
    _resource("pods/attach", "PodAttachOptions", ["create", "get"]),
    _resource("pods/ephemeralcontainers", "Pod", ["get", "patch", "update"]),
    _resource("pods/exec", "PodExecOptions", ["create", "get"]),
    _resource("pods/log", "Pod", ["get"]),
    _resource("pods/portforward", "PodPortForwardOptions", ["create", "get"]),
]
_GROUPS = {
    "authentication.k8s.io/v1": [
        _resource("tokenreviews", "TokenReview", ["create"], namespaced=False)
    ],
    "authorization.k8s.io/v1": [
        _resource("subjectaccessreviews", "SubjectAccessReview", ["create"], namespaced=False)
    ],
}
_METRICS = {
    "metrics.k8s.io/v1beta1": [
        _resource("nodes", "NodeMetrics", ["get", "list"], namespaced=False),
        _resource("pods", "PodMetrics", ["get", "list"]),
    ],
}


def describe(path: str, *, metrics: bool) -> dict[str, Any] | None:
    """The document behind a discovery path, with the metrics API or without; None if it is none."""
    groups = _GROUPS | _METRICS if metrics else _GROUPS
    path = path.rstrip("/")
    if path == "/version":
        return dict(VERSION)
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/api/v1":
        return _resource_list("v1", _CORE)
    if path == "/apis":
        listed = [_group(version) for version in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    name = path.removeprefix("/apis/")
    if name in groups:
        return _resource_list(name, groups[name])
    for version in groups:
        if version.partition("/")[0] == name:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(version)}
    return None


def _group(group_version: str) -> dict[str, Any]:
    name, _, number = group_version.partition("/")
    version = {"groupVersion": group_version, "version": number}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(version: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": resources,
    }
