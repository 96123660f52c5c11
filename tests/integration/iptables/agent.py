"""Edge agents with runtimes of their own on edge hosts, and kubectl on the API server's."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from lab.containerd import Lab, missing
from lab.kubectl import find_or_install
from streamkit.errors import ConfigError
from tests.integration.iptables.site import EDGESTREAM, PODS, Site, host
from tests.support.netns import Namespace

SCRIPT = "echo {node} > /tmp/index.html; httpd -p 8080 -h /tmp; echo from {node}; exec cat"
"""What each node's pod runs: its node's name is in its log, and at its port 8080."""


@contextlib.contextmanager
def agent(site: Site, place: Namespace, node: str, address: str) -> Iterator[None]:
    """An edge agent, and a runtime with the node's pod, in the network of an edge host."""
    if lacking := ", ".join(missing()):
        pytest.skip(f"this machine lacks {lacking}")
    (name,) = (name for name, of_node in PODS.items() if of_node == node)
    with Lab(site.directory.parent / f"runtime-{node}", network=place.name) as lab:
        pod = lab.run_pod(name, host_network=True)
        lab.run_container(pod, "app", ["sh", "-c", SCRIPT.format(node=node)], stdin=True)
        keys = {
            "CAFile": "ca.crt",
            "CertFile": f"edge-{node}.crt",
            "PrivateKeyFile": f"edge-{node}.key",
        }
        tls = {f"tlsTunnel{key}": str(site.pki / file) for key, file in keys.items()}
        runtime = {"containerRuntimeEndpoint": f"unix://{lab.socket}"}
        edged = {"hostnameOverride": node, "nodeIP": address, "tailoredKubeletConfig": runtime}
        stream = {"enable": True, "server": f"{host(site.addresses.cloud)}:10004", **tls}
        config = site.directory / f"edgecore-{node}.yaml"
        config.write_text(yaml.safe_dump({"modules": {"edged": edged, "edgeStream": stream}}))
        site.start(place, EDGESTREAM, "--config", str(config))
        yield
        site.processes.close()  # before the runtime that the edge agent serves


def kubectl_command(site: Site, *arguments: str) -> list[str]:
    """The command line of a kubectl for the API server's host."""
    try:
        program = str(find_or_install())
    except ConfigError as error:
        pytest.skip(f"no kubectl here: {error}")
    kubeconfig = str(site.directory / "kubeconfig")
    return [program, "--kubeconfig", kubeconfig, *arguments]


def kubectl(site: Site, *arguments: str) -> tuple[int, str, str]:
    """Run kubectl there to its end: exit code, output, errors."""
    done = subprocess.run(
        site.cloud.command(*kubectl_command(site, *arguments)),
        env=os.environ | {"HOME": str(site.directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
