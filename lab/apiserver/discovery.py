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
    _resource("pods/exec", "PodExecOptions", ["create", "get"]),
    _resource("pods/log", "Pod", ["get"]),
    _resource("pods/portforward", "PodPortForwardOptions", ["create", "get"]),
]
_REVIEWS = {
    "authentication.k8s.io": _resource("tokenreviews", "TokenReview", ["create"], namespaced=False),
    "authorization.k8s.io": _resource(
        "subjectaccessreviews", "SubjectAccessReview", ["create"], namespaced=False
    ),
}


def describe(path: str) -> dict[str, Any] | None:
    """The document behind a discovery path; None if the path is not one."""
    path = path.rstrip("/")
    if path == "/version":
        return dict(VERSION)
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/api/v1":
        return _resource_list("v1", _CORE)
    if path == "/apis":
        groups = [_group(name) for name in _REVIEWS]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    prefix, _, group = path.partition("/apis/")
    group, _, version = group.partition("/")
    if prefix or group not in _REVIEWS or version not in ("", "v1"):
        return None
    if version:
        return _resource_list(f"{group}/v1", [_REVIEWS[group]])
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group)}


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(version: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": resources,
    }
