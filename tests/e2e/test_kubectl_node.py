"""What kubectl shows of a node and its pods' usage, and every other page of its kubelet."""

import json
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab.layout import NODE_NAME
from tests.e2e.kubectl import Kubectl

PROXY = f"/api/v1/nodes/{NODE_NAME}/proxy"

Check = Callable[[str], object]


def samples(page: str) -> int:
    """How many samples a page has that Prometheus can read."""
    return sum(len(family.samples) for family in text_string_to_metric_families(page))


def is_ok(page: str) -> bool:
    return page == "ok"


def lists_pods(page: str) -> bool:
    names = {item["metadata"]["name"] for item in json.loads(page)["items"]}
    return {"talker", "cat", "web"} <= names


def summarizes(page: str) -> bool:
    summary = json.loads(page)
    return summary["node"]["nodeName"] == NODE_NAME and len(summary["pods"]) > 3


PAGES: dict[str, Check] = {
    "/healthz": is_ok,
    "/healthz/ping": is_ok,
    "/pods": lists_pods,
    "/runningpods/": lists_pods,
    "/stats/summary": summarizes,
    "/metrics": samples,
    "/metrics/resource": samples,
    "/metrics/cadvisor": samples,
    "/metrics/probes": lambda page: samples(page) == 0,
    "/configz": lambda page: json.loads(page)["kubeletconfig"],
    "/containerLogs/default/counted/counted?tailLines=1": lambda page: page == "1000100\n",
}


def quantity(text: str) -> int:
    """The number of a quantity in the one unit that kubectl prints it with."""
    return int(text.removesuffix("m").removesuffix("Mi"))


def test_top_node(each_kubectl: Kubectl) -> None:
    header, *rows = each_kubectl.ok("top", "node").lines
    assert header.split()[0] == "NAME"
    (row,) = [row.split() for row in rows if row.split()[0] == NODE_NAME]
    assert quantity(row[1]) > 0
    assert quantity(row[3]) > 0


def test_top_pod(each_kubectl: Kubectl) -> None:
    header, *rows = each_kubectl.ok("top", "pod", "--containers").lines
    assert header.split()[:2] == ["POD", "NAME"]
    found = {tuple(row.split()[:2]): row.split()[2:] for row in rows}
    assert {("talker", "talker"), ("pair", "alto"), ("pair", "bass")} <= set(found)
    assert all(quantity(cpu) >= 0 and memory.endswith("Mi") for cpu, memory in found.values())


@pytest.mark.parametrize("path", PAGES)
def test_every_page(each_kubectl: Kubectl, path: str) -> None:
    page = each_kubectl.ok("get", "--raw", f"{PROXY}{path}").out.decode()
    assert PAGES[path](page), page[:500]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/no/such", "404 page not found"),
        ("/logs/", "logs endpoint is disabled"),
        ("/checkpoint/default/cat/cat", "405: Method Not Allowed"),
        ("/run/default/cat/cat", "405: Method Not Allowed"),
        ("/exec/default/cat/cat?output=1&command=id", "Upgrade request required"),
        ("/attach/default/cat/cat?output=1", "Upgrade request required"),
        ("/portForward/default/web", "Upgrade request required"),
    ],
)
def test_pages_that_refuse(each_kubectl: Kubectl, path: str, told: str) -> None:
    done = each_kubectl("get", "--raw", f"{PROXY}{path}")
    assert done.code == 1
    assert told in done.err
