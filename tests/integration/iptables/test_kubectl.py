"""kubectl, against an API server that reaches the edge through the rules alone."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.iptables.agent import agent, kubectl, kubectl_command
from tests.integration.iptables.site import (
    PODS,
    SCRAPER,
    V4,
    V6,
    Addresses,
    Site,
    furnished,
    hide,
    host,
)
from tests.support.metrics_server import read_page
from tests.support.netns import Namespace, joined, namespace
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(180)


@contextlib.contextmanager
def site_at(addresses: Addresses, tmp_path: Path) -> Iterator[Site]:
    """The hosts, with a manager and without edge agents."""
    directory = tmp_path / "site"
    directory.mkdir()
    with furnished(addresses, directory, scripted=()) as site:
        site.start_manager()
        eventually(lambda: site.packets_to(addresses.edge) is not None)
        yield site


@pytest.mark.parametrize("at", [V4, V6], ids=["IPv4", "IPv6"])
def test_kubectl_and_metrics_server_come_through_the_rules(tmp_path: Path, at: Addresses) -> None:
    with site_at(at, tmp_path) as site, agent(site, site.edge, "edge-1", at.edge):
        eventually(lambda: site.connected() == 1)
        assert kubectl(site, "logs", "web") == (0, "from edge-1\n", "")
        first = site.packets_to(at.edge)
        assert first
        found = kubectl(site, "exec", "web", "--", "sh", "-c", "ip address show; exit 7")
        assert found[0] == 7, found
        assert f" {at.edge}/{at.prefix} " in found[1]
        second = site.packets_to(at.edge)
        assert second
        assert second > first
        listening = site.edge.run("ss", "-Hltunp")
        # The runtime streams on the loopback, and the pod serves; nothing else is there.
        agents = [line for line in listening.splitlines() if "httpd" not in line]
        assert all("127.0.0.1:" in line for line in agents), listening
        assert "edgestream" not in listening
        eventually(lambda: is_of_use_to_metrics_server(site))


def is_of_use_to_metrics_server(site: Site) -> bool:
    """Scrape as a metrics-server in a pod does: a Go client with nothing but a token."""
    url = f"https://{host(site.addresses.edge)}:10351/metrics/resource"
    agent = ("--user-agent", "metrics-server/v0.8.0 (linux/amd64) kubernetes/24e9e23")
    token = ("--header", f"Authorization: Bearer {SCRAPER}")
    # It offers HTTP/2 and compression, and sends no Accept.
    offers = ("--http2", "--compressed", "--header", "Accept:")
    status, page = site.curl(site.pod, url, *offers, *agent, *token)
    assert status == "200", page
    scrape = read_page(page.encode())
    assert scrape.node
    return "app" in scrape.pods.get(("default", "web"), {})


@contextlib.contextmanager
def twin(site: Site) -> Iterator[Namespace]:
    """Another edge host with the same address, behind a router of its own."""
    at = site.addresses
    with namespace() as router, namespace() as edge:
        joined(site.cloud, router, "t", ["10.2.1.12/24", "10.2.1.1/24"])
        joined(edge, router, "u", [f"{at.edge}/24", f"{at.edge_gateway}/24"])
        edge.run("ip", "route", "add", "default", "via", at.edge_gateway)
        router.run("ip", "route", "add", "default", "via", "10.2.1.12")
        hide(router, "ub", behind="tb")
        yield edge


def forwarded(site: Site, pod: str, port: int) -> str:
    """What the pod's port 8080 answers through a port-forward."""
    command = kubectl_command(site, "port-forward", f"pod/{pod}", f"{port}:8080")
    process = site.start(site.cloud, *command)
    url = f"http://127.0.0.1:{port}/"
    eventually(lambda: site.curl(site.cloud, url)[0] == "200")
    body = site.curl(site.cloud, url)[1]
    process.kill()
    return body


def test_two_nodes_with_the_same_internal_address(tmp_path: Path) -> None:
    at = replace(V4, second_edge=V4.edge)
    with (
        site_at(at, tmp_path) as site,
        twin(site) as other,
        agent(site, site.edge, "edge-1", at.edge),
        agent(site, other, "edge-2", at.edge),
    ):
        eventually(lambda: site.connected() == 2)
        rules = [rule for rule in site.counters() if "DNAT" in rule]
        assert len(rules) == 1, rules
        for number, (pod, node) in enumerate(PODS.items()):
            assert kubectl(site, "logs", pod) == (0, f"from {node}\n", "")
            assert kubectl(site, "exec", pod, "--", "cat", "/tmp/index.html")[1] == f"{node}\n"
            assert forwarded(site, pod, 18080 + number) == f"{node}\n"
            raw = kubectl(site, "get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary")
            assert json.loads(raw[1])["node"]["nodeName"] == node
