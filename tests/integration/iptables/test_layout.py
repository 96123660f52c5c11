"""A cloud host and an edge host in two subnets, as KubeEdge's guide has them, on kernel NAT.

Nothing leads from the cloud to the edge: the edge dials out, and a router hides it. API server,
cloud service and rules are on the cloud host. What dials the edge node's address there arrives.

    pod 10.42.0.2 ── cloud 10.2.0.12 ── router (NAT) ── edge 10.2.4.15, 10.2.4.16
"""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from streamkit.pki.issue import issue_all
from tests.support.netns import KUBE_PROXY, Namespace, joined, namespace

CLOUDSTREAM = str(Path(sys.executable).with_name("cloudstream"))
PROJECT = Path(__file__).resolve().parents[3]
DEADLINE = 30.0
TOKEN, SCRAPER, STRANGER = "admin-token", "scraper-token", "stranger-token"
EDGE_ROLE = {"node-role.kubernetes.io/edge": ""}


@dataclass(frozen=True)
class Addresses:
    """Who has which, in one IP version; ``prefix`` is that of each subnet."""

    iptables: str
    prefix: int
    cloud: str
    cloud_gateway: str
    edge: str
    second_edge: str
    edge_gateway: str
    pod: str
    pod_gateway: str
    other: str


V4 = Addresses(
    iptables="iptables-nft",
    prefix=24,
    cloud="10.2.0.12",
    cloud_gateway="10.2.0.1",
    edge="10.2.4.15",
    second_edge="10.2.4.16",
    edge_gateway="10.2.4.1",
    pod="10.42.0.2",
    pod_gateway="10.42.0.1",
    other="10.2.0.99",
)
V6 = Addresses(
    iptables="ip6tables-nft",
    prefix=64,
    cloud="fd00:2::12",
    cloud_gateway="fd00:2::1",
    edge="fd00:4::15",
    second_edge="fd00:4::16",
    edge_gateway="fd00:4::1",
    pod="fd00:42::2",
    pod_gateway="fd00:42::1",
    other="fd00:2::99",
)


class Site:
    """The four networks, and the processes in them."""

    def __init__(self, addresses: Addresses, directory: Path, networks: list[Namespace]) -> None:
        self.addresses = addresses
        self.directory = directory
        self.cloud, self.router, self.edge, self.pod = networks
        self.processes = contextlib.ExitStack()
        self.pki = directory / "pki"

    def start(self, place: Namespace, *command: str) -> subprocess.Popen[bytes]:
        """Start a process, which ends with the test; its output goes to a file."""
        name = f"{place.name}-{Path(command[0]).name}-{len(list(self.directory.iterdir()))}.log"
        log = self.processes.enter_context((self.directory / name).open("wb"))
        process = subprocess.Popen(
            place.command(*command), stdout=log, stderr=log, cwd=PROJECT, start_new_session=True
        )
        self.processes.callback(_end, process)
        return process

    def curl(self, place: Namespace, url: str, *arguments: str) -> tuple[str, str]:
        """Status and body; the status is ``000`` where nobody answers."""
        command = ("curl", "--silent", "--insecure", "--max-time", "20", "--connect-timeout", "2")
        done = subprocess.run(
            place.command(*command, "--write-out", "\n%{http_code}", *arguments, url),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        body, _, status = done.stdout.rpartition("\n")
        return status, body

    def as_api_server(self, address: str, path: str, place: Namespace | None = None) -> str:
        """The body of a kubelet request, with the API server's client certificate."""
        pair = [str(self.pki / f"apiserver-client.{kind}") for kind in ("crt", "key")]
        options = ("--cert", pair[0], "--key", pair[1])
        url = f"https://{_host(address)}:10351{path}"
        status, body = self.curl(place or self.cloud, url, *options)
        assert status in ("000", "200"), body
        return body

    def ask_api(self, path: str) -> str:
        """The body of a request to the API server."""
        header = ("--header", f"Authorization: Bearer {TOKEN}")
        return self.curl(self.cloud, f"https://127.0.0.1:6443{path}", *header)[1]

    def counters(self) -> dict[str, int]:
        """Packets by rule of the chain and by jump to it."""
        saved = self.cloud.run(f"{self.addresses.iptables}-save", "-c", "-t", "nat")
        found = re.findall(r"^\[(\d+):\d+\] (-A .*TUNNEL-PORT.*)$", saved, re.MULTILINE)
        return {rule: int(packets) for packets, rule in found}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(DEADLINE)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a condition of other processes."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def cabled(addresses: Addresses, networks: list[Namespace]) -> None:
    """Lay the cables, and let the router hide the edge."""
    cloud, router, edge, pod = networks
    at, prefix = addresses, addresses.prefix

    def ends(one: str, other: str) -> list[str]:
        return [f"{one}/{prefix}", f"{other}/{prefix}"]

    joined(cloud, router, "c", ends(at.cloud, at.cloud_gateway))
    joined(edge, router, "e", ends(at.edge, at.edge_gateway))
    joined(pod, cloud, "p", ends(at.pod, at.pod_gateway))
    edge.run("ip", "address", "add", f"{at.second_edge}/{prefix}", "dev", "ea", "nodad")
    cloud.run("ip", "address", "add", at.other, "dev", "lo", "nodad")
    for place, gateway in ((cloud, at.cloud_gateway), (edge, at.edge_gateway)):
        place.run("ip", "route", "add", "default", "via", gateway)
    pod.run("ip", "route", "add", "default", "via", at.pod_gateway)
    for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        router.run("sh", "-c", f"echo 1 > /proc/sys/net/{switch}")
    version = "ip6" if ":" in at.cloud else "ip"
    router.restore(
        "nft",
        """\
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eb -j ACCEPT
COMMIT
*nat
-A POSTROUTING -o cb -j MASQUERADE
COMMIT
""",
        version=version,
    )


def configured(site: Site) -> tuple[Path, Path, Path]:
    """Write the configurations of the API server and of the cloud service, and the kubeconfig."""
    at, directory, pki = site.addresses, site.directory, site.pki
    issue_all(pki, nodes=("edge-1", "edge-2"), sans=(at.cloud,))
    nodes = [
        {"name": name, "address": address, "port": 10250, "labels": EDGE_ROLE}
        for name, address in (("edge-1", at.edge), ("edge-2", at.second_edge))
    ]
    client = {name: str(pki / f"apiserver-client.{name}") for name in ("crt", "key")}
    api_server = {
        "listen": "127.0.0.1:6443",
        "tls": {"cert": str(pki / "stream.crt"), "key": str(pki / "stream.key")},
        "clientCA": str(pki / "ca.crt"),
        "kubelet": {"cert": client["crt"], "key": client["key"]},
        "tokens": {
            TOKEN: {"user": "admin", "groups": ["system:masters"]},
            SCRAPER: {"user": "scraper", "allowed": ["nodes/metrics"]},
            STRANGER: {"user": "stranger"},
        },
        "nodes": nodes,
        "pods": [{"metadata": {"name": "web"}, "spec": {"nodeName": "edge-1"}}],
        "namespaces": ["default"],
    }
    user = {"client-certificate": client["crt"], "client-key": client["key"]}
    cluster = {"server": "https://127.0.0.1:6443", "certificate-authority": str(pki / "ca.crt")}
    kubeconfig = {
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    keys = {
        f"tls{part.capitalize()}{key}": str(pki / file)
        for part in ("stream", "tunnel")
        for key, file in (
            ("CAFile", "ca.crt"),
            ("CertFile", f"{part}.crt"),
            ("PrivateKeyFile", f"{part}.key"),
        )
    }
    cloudcore = {
        "kubeAPIConfig": {"kubeConfig": str(directory / "kubeconfig")},
        "modules": {"cloudStream": keys},
    }
    files = {"apiserver.json": api_server, "kubeconfig": kubeconfig, "cloudcore.yaml": cloudcore}
    for name, content in files.items():
        text = json.dumps(content) if name.endswith("json") else yaml.safe_dump(content)
        (directory / name).write_text(text)
    return directory / "apiserver.json", directory / "cloudcore.yaml", directory / "kubeconfig"


@pytest.fixture(params=[V4, V6], ids=["IPv4", "IPv6"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Both hosts, with everything running but the rules."""
    with contextlib.ExitStack() as stack:
        networks = [stack.enter_context(namespace()) for _ in range(4)]
        found = Site(request.param, tmp_path, networks)
        cabled(found.addresses, networks)
        found.cloud.restore("nft", KUBE_PROXY)
        found.cloud.restore("nft", KUBE_PROXY, version="ip6")
        stack.enter_context(found.processes)
        api_server, cloudcore, _ = configured(found)
        python = sys.executable
        found.start(found.cloud, python, "-m", "lab.apiserver", "--config", str(api_server))
        eventually(lambda: found.ask_api("/healthz") == "ok")
        found.start(found.cloud, CLOUDSTREAM, "--config", str(cloudcore))
        at = found.addresses
        for node, address in (("edge-1", at.edge), ("edge-2", at.second_edge)):
            server = f"{_host(at.cloud)}:10004"
            module = ("-m", "tests.support.scripted_edge")
            found.start(found.edge, python, *module, server, node, address, str(found.pki))
        eventually(lambda: found.ask_api("/api/v1/nodes").count('"Port": 10351') == 2)
        yield found


def manage(site: Site) -> None:
    """Start the manager, and wait for its rules."""
    kubeconfig = str(site.directory / "kubeconfig")
    site.start(site.cloud, CLOUDSTREAM, "iptables", "--kubeconfig", kubeconfig)
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
    url = f"https://{_host(site.addresses.second_edge)}:10351/metrics/resource"

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
    url = f"http://{_host(at.other)}:10351/kubeconfig"
    eventually(lambda: site.curl(site.cloud, url)[0] == "200")
    assert "clusters" in site.curl(site.cloud, url)[1]
    assert site.curl(site.pod, url)[0] == "200"
