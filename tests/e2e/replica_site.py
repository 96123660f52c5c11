"""Two cloud services behind one address, and edges that dial them, as real programs."""

import json
import sys
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from cloudstream.kube.port_record import ANNOTATION
from lab import configs
from lab.containerd import Lab
from lab.environment import BIN
from lab.layout import HOST, Layout
from streamkit.pki.issue import issue_all
from tests.e2e.background import Background, background
from tests.e2e.kubectl import Kubectl
from tests.e2e.pods import run_pod
from tests.e2e.stack import DEADLINE, Program, check_log, environment_for, merged, wait_until
from tests.support.balancer import Balancer, balancer
from tests.support.http_server import free_port
from tests.unit.lab.places import free_layout

HOSTS = ("127.0.0.2", "127.0.0.3")
NODE_IP = "192.0.2.7"
"""That of all nodes: their names have to do."""
WEB_PORT = 8080
LINES = 1000
LOG = "".join(f"{number}\n" for number in range(1, LINES + 1)).encode()
"""What each pod has written."""
_SCRIPT = f"seq {LINES}; exec cat"
_WITH_PAGE = f"httpd -p {WEB_PORT} -h /www; {_SCRIPT}"
_AT_ONCE = 2
"""Edges that start at the same time, which takes them a second of a processor each."""
_LOOK = 2.0
"""Seconds for an admin page to answer."""


@dataclass(slots=True)
class Served:
    """A program with an admin address."""

    program: Program
    admin: str

    def page(self, path: str) -> str:
        """One of its pages; empty where it does not answer, or with a failure."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=_LOOK) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def figures(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of a metric, by the values of their labels."""
        families = text_string_to_metric_families(self.page("/metrics"))
        return {
            tuple(sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        }


class ReplicaSite:
    """The programs, connected, for the length of a ``with`` block.

    Node ``edge-N`` runs the pod ``pod-N``, which has written LOG, sends back its input and (where
    pods have a network of their own) serves the lab's page at WEB_PORT. API
    server and edges come to the replicas by one address each, where a new connection goes to the
    next replica that is ready. ``lead_requests_to`` decides on API servers' connections.
    """

    def __init__(
        self, lab: Layout, runtime: Lab, directory: Path, kubectl: Path, *, edges: int
    ) -> None:
        self.has_pages = runtime.has_network
        self.names = [f"edge-{number}" for number in range(edges)]
        self.layout = layout = free_layout(directory)
        self._stack = ExitStack()
        issue_all(layout.pki, nodes=self.names)
        layout.containerd.symlink_to(lab.containerd)
        self._loop = loop = self._stack.enter_context(background())
        self._is_ready = [False, False]
        self._only: int | None = None
        self._streams = self._balancer(loop, layout.stream_port, self._takes_requests)
        tunnels = self._balancer(loop, layout.tunnel_port, self._is_ready.__getitem__)
        self.clouds = [self._cloud(host) for host in HOSTS]
        dialled = replace(layout, tunnel_port=tunnels.port)
        self.edges = {name: self._edge(name, dialled) for name in self.names}
        layout.kubeconfig.write_text(yaml.safe_dump(configs.kubeconfig(layout)))
        pods = [self._run_pod(runtime, name) for name in self.names]
        self.apiserver = self._apiserver(f"{HOST}:{self._streams.port}", pods)
        self.kubectl = Kubectl(kubectl, environment_for(layout))

    def __enter__(self) -> Self:
        try:
            self.apiserver.start()
            for cloud in self.clouds:
                cloud.program.start()
            wait_until(lambda: self.look() == [True, True], "two ready replicas")
            wait_until(lambda: len(self.record()["ipTunnelPort"]) == 2, "two entries")
            for begin in range(0, len(self.names), _AT_ONCE):
                self._connect(self.names[begin : begin + _AT_ONCE])
            self.wait_until_published()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close()
        if kind is None:
            for each in (*self.clouds, *self.edges.values()):
                check_log(each.program.log_text)

    def look(self) -> list[bool]:
        """Who is ready, as the balancers see it from now on."""
        for index, cloud in enumerate(self.clouds):
            self._is_ready[index] = bool(cloud.page("/readyz?exclude=certificates"))
        return self._is_ready

    def lead_requests_to(self, index: int | None) -> None:
        """Only that replica gets requests from now on; None: either one."""
        self._only = index
        if index is not None:
            for other in set(range(len(HOSTS))) - {index}:
                self._loop.call(partial(self._streams.drop, other))

    def held_by(self, index: int) -> int:
        """How many edges are connected to that replica."""
        return int(sum(self.clouds[index].figures("cloudstream_tunnels").values()))

    def record(self) -> Any:
        """The ``tunnelport`` record; an empty one where there is none yet."""
        done = self.kubectl("get", "configmap", "tunnelport", "-n", "kubeedge", "-o", "json")
        if done.code:
            return {"ipTunnelPort": {}}
        return json.loads(json.loads(done.out)["metadata"]["annotations"][ANNOTATION])

    def published(self) -> dict[str, int]:
        """The kubelet ports of all Nodes."""
        nodes = json.loads(self.kubectl.ok("get", "nodes", "-o", "json").out)["items"]
        return {
            node["metadata"]["name"]: node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
            for node in nodes
        }

    def wait_until_published(self, index: int | None = None, deadline: float = DEADLINE) -> float:
        """Wait until each node's port is that of its replica, that one of all; seconds it took."""
        ports = self.record()["ipTunnelPort"]
        wanted = {ports[host] for host in ([HOSTS[index]] if index is not None else HOSTS)}

        def is_published() -> bool:
            return set(self.published().values()) <= wanted

        return wait_until(is_published, f"ports {wanted} in all Nodes", deadline)

    def answered(self) -> Counter[tuple[str, str]]:
        """How many requests each edge has answered, by node and kind."""
        found: Counter[tuple[str, str]] = Counter()
        for name, edge in self.edges.items():
            for (kind, _), count in edge.figures("edgestream_requests_total").items():
                found[name, kind] += int(count)
        return found

    def _connect(self, names: Sequence[str]) -> None:
        for name in names:
            self.edges[name].program.start()
        for name in names:
            self.edges[name].program.wait_for_log(f'as node "{name}", speaking v2')

    def _takes_requests(self, index: int) -> bool:
        return self._only in (None, index) and self._is_ready[index]

    def _balancer(self, loop: Background, port: int, is_ready: Any) -> Balancer:
        return loop.enter(balancer(*((host, port) for host in HOSTS), is_ready=is_ready))

    def _close(self) -> None:
        for each in (*self.edges.values(), *self.clouds):
            each.program.close()
        self.apiserver.close()
        self._stack.close()

    def _cloud(self, host: str) -> Served:
        admin = f"{host}:{free_port()}"
        own = {
            "bindAddress": host,
            "adminAddress": admin,
            "kubernetes": {"advertiseAddress": host},
        }
        config = merged(configs.cloudcore(self.layout), {"cloudstream": own})
        return Served(self._program(f"cloud-{host}", "cloudstream", config), admin)

    def _edge(self, name: str, dialled: Layout) -> Served:
        admin = f"{HOST}:{free_port()}"
        stem = str(self.layout.pki / f"edge-{name}")
        keys = {"tlsTunnelCertFile": f"{stem}.crt", "tlsTunnelPrivateKeyFile": f"{stem}.key"}
        own = {
            "modules": {
                "edged": {"hostnameOverride": name, "nodeIP": NODE_IP},
                "edgeStream": keys,
            },
            "edgestream": {"adminAddress": admin},
        }
        config = merged(configs.edgecore(dialled), own)
        return Served(self._program(name, "edgestream", config), admin)

    def _program(self, name: str, command: str, config: Any) -> Program:
        path = self.layout.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        line = (str(BIN / command), "-v", "4", "--config", str(path))
        return Program(line, path.with_suffix(".log"))

    def _apiserver(self, dialled: str, pods: Sequence[Any]) -> Program:
        node = {"address": NODE_IP, "port": 10250, "dial": dialled}
        nodes = [{"name": name, **node} for name in self.names]
        config = configs.apiserver(self.layout) | {"nodes": nodes, "pods": pods}
        path = self.layout.apiserver_config
        path.write_text(json.dumps(config))
        line = (sys.executable, "-m", "lab.apiserver", "--config", str(path))
        return Program(line, path.with_suffix(".log"))

    def _run_pod(self, runtime: Lab, node: str) -> Any:
        """Run the node's pod, and return what the API server knows of it."""
        name, uid = pod_of(node), str(uuid.uuid4())
        pod = run_pod(runtime, name, uid=uid)
        self._stack.callback(runtime.remove_pod, pod.id)
        script = _WITH_PAGE if runtime.has_network else _SCRIPT
        runtime.run_container(pod, "app", ["sh", "-c", script], stdin=True)
        container = {"name": "app", "image": "any", "stdin": True}
        return {
            "metadata": {"name": name, "namespace": "default", "uid": uid},
            "spec": {"nodeName": node, "containers": [container]},
        }


def pod_of(node: str) -> str:
    """The pod that runs on the node."""
    return node.replace("edge", "pod")
