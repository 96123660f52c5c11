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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from streamkit.pki.issue import issue_all
from tests.support.cloud import tls_files
from tests.support.cloudcore import tls_keys
from tests.support.netns import KUBE_PROXY, Namespace, joined, namespace
from tests.support.wait import eventually

CLOUDSTREAM, EDGESTREAM = (
    str(Path(sys.executable).with_name(name)) for name in ("cloudstream", "edgestream")
)
PROJECT = Path(__file__).resolve().parents[3]
DEADLINE = 30.0
TOKEN, SCRAPER, STRANGER = "admin-token", "scraper-token", "stranger-token"
PODS = {"web": "edge-1", "shop": "edge-2"}
"""The nodes of the pods; each has a container ``app``."""
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
        self.cloud_services: list[subprocess.Popen[bytes]] = []

    def start(self, place: Namespace, *command: str) -> subprocess.Popen[bytes]:
        """Start a process, which ends with the test; its output goes to a file."""
        name = f"{place.name}-{Path(command[0]).name}-{len(list(self.directory.iterdir()))}.log"
        log = self.processes.enter_context((self.directory / name).open("wb"))
        process = subprocess.Popen(
            place.command(*command), stdout=log, stderr=log, cwd=PROJECT, start_new_session=True
        )
        self.processes.callback(kill, process)
        return process

    def start_cloud(self) -> None:
        """Start a cloud service on the cloud host; one beside another finds its ports taken."""
        config = str(self.directory / "cloudcore.yaml")
        self.cloud_services.append(self.start(self.cloud, CLOUDSTREAM, "--config", config))

    def restart_cloud(self) -> None:
        """Kill all cloud services, and start one."""
        while self.cloud_services:
            kill(self.cloud_services.pop())
        self.start_cloud()

    def start_manager(self) -> subprocess.Popen[bytes]:
        """Start a manager on the cloud host."""
        kubeconfig = str(self.directory / "kubeconfig")
        return self.start(self.cloud, CLOUDSTREAM, "iptables", "--kubeconfig", kubeconfig)

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
        url = f"https://{host(address)}:10351{path}"
        status, body = self.curl(place or self.cloud, url, *options)
        assert status in ("000", "200"), body
        return body

    def ask_api(self, path: str) -> str:
        """The body of a request to the API server."""
        header = ("--header", f"Authorization: Bearer {TOKEN}")
        return self.curl(self.cloud, f"https://127.0.0.1:6443{path}", *header)[1]

    def connected(self) -> int:
        """How many Nodes have the port of those that are connected."""
        return self.ask_api("/api/v1/nodes").count('"Port": 10351')

    def counters(self) -> dict[str, int]:
        """Packets by rule of the chain and by jump to it."""
        saved = self.cloud.run(f"{self.addresses.iptables}-save", "-c", "-t", "nat")
        found = re.findall(r"^\[(\d+):\d+\] (-A .*TUNNEL-PORT.*)$", saved, re.MULTILINE)
        return {rule: int(packets) for packets, rule in found}

    def packets_to(self, edge: str) -> int | None:
        """Packets that the rule for an edge node's address has met; None without such a rule."""
        found = self.counters().items()
        return next((count for rule, count in found if f" {edge}/" in rule), None)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, if it has not ended."""
    process.kill()
    process.wait(DEADLINE)


def host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def cabled(addresses: Addresses, networks: list[Namespace]) -> None:
    """Lay the cables, and let the router hide the edge."""
    cloud, router, edge, pod = networks
    at, prefix = addresses, addresses.prefix

    def ends(one: str, other: str) -> list[str]:
        return [f"{one}/{prefix}", f"{other}/{prefix}"]

    joined(cloud, router, "c", ends(at.cloud, at.cloud_gateway))
    joined(edge, router, "e", ends(at.edge, at.edge_gateway))
    joined(pod, cloud, "p", ends(at.pod, at.pod_gateway))
    if at.second_edge != at.edge:
        edge.run("ip", "address", "add", f"{at.second_edge}/{prefix}", "dev", "ea", "nodad")
    cloud.run("ip", "address", "add", at.other, "dev", "lo", "nodad")
    for place, gateway in ((cloud, at.cloud_gateway), (edge, at.edge_gateway)):
        place.run("ip", "route", "add", "default", "via", gateway)
    pod.run("ip", "route", "add", "default", "via", at.pod_gateway)
    hide(router, "eb", behind="cb", version="ip6" if ":" in at.cloud else "ip")


def hide(router: Namespace, inner: str, *, behind: str, version: str = "ip") -> None:
    """Let a router's inner side dial out, and nobody in."""
    for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        router.run("sh", "-c", f"echo 1 > /proc/sys/net/{switch}")
    router.restore(
        "nft",
        f"""\
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i {inner} -j ACCEPT
COMMIT
*nat
-A POSTROUTING -o {behind} -j MASQUERADE
COMMIT
""",
        version=version,
    )


def configured(site: Site) -> None:
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
        "pods": [
            {
                "metadata": {"name": name},
                "spec": {"nodeName": node, "containers": [{"name": "app", "image": "any"}]},
            }
            for name, node in PODS.items()
        ],
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
    cloudcore = {
        "kubeAPIConfig": {"kubeConfig": str(directory / "kubeconfig")},
        "modules": {"cloudStream": tls_keys(tls_files(pki, "stream"), tls_files(pki, "tunnel"))},
    }
    files = {"apiserver.json": api_server, "kubeconfig": kubeconfig, "cloudcore.yaml": cloudcore}
    for name, content in files.items():
        text = json.dumps(content) if name.endswith("json") else yaml.safe_dump(content)
        (directory / name).write_text(text)


@contextlib.contextmanager
def furnished(
    addresses: Addresses,
    directory: Path,
    *,
    backend: str = "nft",
    scripted: Sequence[str] = ("edge-1", "edge-2"),
) -> Iterator[Site]:
    """Both hosts, with everything running but the rules.

    Those of Kubernetes are in ``backend``. The edge nodes that are ``scripted`` are connected.
    """
    with contextlib.ExitStack() as stack:
        networks = [stack.enter_context(namespace()) for _ in range(4)]
        found = Site(addresses, directory, networks)
        cabled(found.addresses, networks)
        for version in ("ip", "ip6"):
            found.cloud.restore(backend, KUBE_PROXY, version=version)
        stack.enter_context(found.processes)
        configured(found)
        python = sys.executable
        api_server = directory / "apiserver.json"
        found.start(found.cloud, python, "-m", "lab.apiserver", "--config", str(api_server))
        eventually(lambda: found.ask_api("/healthz") == "ok")
        found.start_cloud()
        at = found.addresses
        for node, address in (("edge-1", at.edge), ("edge-2", at.second_edge)):
            if node not in scripted:
                continue
            server = f"{host(at.cloud)}:10004"
            module = ("-m", "tests.support.scripted_edge")
            found.start(found.edge, python, *module, server, node, address, str(found.pki))
        eventually(lambda: found.connected() == len(scripted))
        yield found
