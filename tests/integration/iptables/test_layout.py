"""A cloud host and an edge host in two subnets, as KubeEdge's guide has them, on kernel NAT."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.iptables.site import (
    SCRAPER,
    STRANGER,
    V4,
    V6,
    Site,
    furnished,
    host,
)
from tests.support.wait import eventually


@pytest.fixture(params=[V4, V6], ids=["IPv4", "IPv6"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with furnished(request.param, tmp_path) as found:
        yield found


def manage(site: Site) -> None:
    """Start the manager, and wait for its rules."""
    site.start_manager()
    eventually(lambda: any("DNAT" in rule for rule in site.counters()))


def test_an_api_server_reaches_nodes_that_nothing_leads_to(site: Site) -> None:
    at = site.addresses
    log_path = "/containerLogs/default/web/app?tailLines=1"
    assert site.as_api_server(at.edge, log_path) == ""  # no way there
    record = site.ask_api("/api/v1/namespaces/kubeedge/configmaps/tunnelport")
    text = json.loads(record)["metadata"]["annotations"]["tunnelportrecord.kubeedge.io"]
    assert json.loads(text) == {"ipTunnelPort": {at.cloud: 10351}, "port": {"10351": True}}

    manage(site)
    assert not any(count for rule, count in site.counters().items() if "DNAT" in rule)
    assert site.as_api_server(at.edge, log_path) == f"edge-1 GET {log_path}\n"
    packets = site.counters()
    rule = next(each for each in packets if "DNAT" in each and f" {at.edge}/" in each)
    jump = next(each for each in packets if each.startswith("-A OUTPUT"))
    assert packets[rule] >= 1
    assert packets[jump] >= 1

    # The API server itself, which dials what the Node says.
    answer = site.ask_api("/api/v1/namespaces/default/pods/web/log?container=app")
    assert answer.startswith("edge-1 GET /containerLogs/default/web/app")
    # Which node is meant is seen from the address that was dialled, through NAT.
    assert site.as_api_server(at.edge, "/healthz") == "edge-1 GET /healthz\n"
    assert site.as_api_server(at.second_edge, "/healthz") == "edge-2 GET /healthz\n"
    # Pods come through PREROUTING.
    assert site.as_api_server(at.edge, "/healthz", site.pod) == "edge-1 GET /healthz\n"
    jump = next(each for each in site.counters() if each.startswith("-A PREROUTING"))
    assert site.counters()[jump] >= 1
    assert site.edge.run("ss", "--no-header", "--listening", "--tcp", "--udp", "--numeric") == ""


def test_scrapers_in_pods_read_metrics_with_their_tokens(site: Site) -> None:
    manage(site)
    url = f"https://{host(site.addresses.second_edge)}:10351/metrics/resource"

    def scrape(token: str) -> tuple[str, str]:
        return site.curl(site.pod, url, "--header", f"Authorization: Bearer {token}")

    # The edge node would answer with the token if it got to see it.
    assert scrape(SCRAPER) == ("200", "edge-2 GET /metrics/resource\n")
    text = "Forbidden (user=stranger, verb=get, resource=nodes, subresource(s)=[metrics])"
    assert scrape(STRANGER) == ("403", text)
    assert scrape("unknown") == ("401", "Unauthorized")


def test_other_connections_go_where_they_went(site: Site) -> None:
    at = site.addresses
    manage(site)
    module = ("-m", "http.server", "10351", "--bind", at.other, "--directory", str(site.directory))
    site.start(site.cloud, sys.executable, *module)
    url = f"http://{host(at.other)}:10351/kubeconfig"
    eventually(lambda: site.curl(site.cloud, url)[0] == "200")
    assert "clusters" in site.curl(site.cloud, url)[1]
    assert site.curl(site.pod, url)[0] == "200"
