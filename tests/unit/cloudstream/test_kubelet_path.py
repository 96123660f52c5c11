import pytest

from cloudstream.kubelet_path import Subject, subject_of
from streamkit.wire.exchange import RequestHead


def subject(target: str, *forwarded: str) -> Subject:
    headers = tuple(("X-Forwarded-Uri", uri) for uri in forwarded)
    return subject_of(RequestHead("GET", target, headers))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/containerLogs/ns/web/app?follow=true", Subject("containerLogs", "ns", "web")),
        ("/exec/ns/web/app?command=/a/b", Subject("exec", "ns", "web")),
        ("/exec/ns/web/uid-1/app", Subject("exec", "ns", "web")),
        ("/attach/ns/web/app/", Subject("attach", "ns", "web")),
        ("/portForward/ns/web", Subject("portForward", "ns", "web")),
        ("/run/ns/web/app", Subject("run", "ns", "web")),
        ("/containerLogs/ns/w%2Fb/a", Subject("containerLogs", "ns", "w/b")),
        ("/containerLogs/ns%20/web", Subject("containerLogs", "ns ", "web")),
        ("/containerLogs/ns", Subject("containerLogs")),
        ("/exec", Subject("exec")),
        ("/stats/ns/web/uid/app", Subject("stats")),
        ("/metrics/cadvisor", Subject("metrics")),
        ("/pods?a=/exec/ns/web", Subject("pods")),
        ("/", Subject("")),
        ("//exec/ns/web", Subject("")),
    ],
)
def test_a_path_names_a_pod_or_nothing(target: str, expected: Subject) -> None:
    assert subject(target) == expected


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/api/v1/nodes/edge-1/proxy/stats/summary", "edge-1"),
        ("/api/v1/nodes/edge-1/proxy/", "edge-1"),
        ("/api/v1/nodes/edge-1/proxy?x=1", "edge-1"),
        ("/api/v1/nodes/edge%2D1:10250/proxy/metrics", "edge-1"),
        ("/api/v1/nodes/https:edge-1:10250/proxy/metrics", "edge-1"),
        ("/api/v1/nodes/https:edge-1:/proxy/metrics", "edge-1"),
        ("/api/v1/nodes/edge-1", ""),
        ("/api/v1/nodes/edge-1/status", ""),
        ("/api/v1/namespaces/ns/pods/web/proxy/", ""),
        ("/apis/metrics.k8s.io/v1beta1/nodes/edge-1", ""),
        ("", ""),
    ],
)
def test_the_node_proxy_names_its_node(uri: str, name: str) -> None:
    assert subject("/metrics", uri) == Subject("metrics", node_name=name)


def test_the_first_forwarded_uri_that_names_a_node_counts() -> None:
    uris = ("/x", "/api/v1/nodes/a/proxy/x", "/api/v1/nodes/b/proxy/x")
    assert subject("/pods", *uris).node_name == "a"


def test_a_pod_reached_through_the_node_proxy_keeps_both_names() -> None:
    found = subject("/containerLogs/ns/web/app", "/api/v1/nodes/edge-1/proxy/containerLogs/x")
    assert found == Subject("containerLogs", "ns", "web", "edge-1")


def test_only_container_logs_are_logs() -> None:
    assert subject("/containerLogs/ns/web/app").is_logs
    assert not subject("/logs/syslog").is_logs
