"""kubectl, against an API server that reaches the edge through the rules alone."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.containerd import Lab, missing
from lab.kubectl import find_or_install
from streamkit.errors import ConfigError
from tests.integration.iptables.site import EDGESTREAM, V4, Site, eventually, furnished

SCRIPT = "echo from the edge; exec cat"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Cloud, rules, and an edge agent with a runtime in the network of the edge host."""
    if lacking := ", ".join(missing()):
        pytest.skip(f"this machine lacks {lacking}")
    site_directory = tmp_path / "site"
    site_directory.mkdir()
    with (
        furnished(V4, site_directory, scripted=()) as site,
        Lab(tmp_path / "runtime", network=site.edge.name) as lab,
    ):
        pod = lab.run_pod("web", host_network=True)
        lab.run_container(pod, "app", ["sh", "-c", SCRIPT], stdin=True)
        keys = {
            "CAFile": "ca.crt",
            "CertFile": "edge-edge-1.crt",
            "PrivateKeyFile": "edge-edge-1.key",
        }
        tls = {f"tlsTunnel{key}": str(site.pki / file) for key, file in keys.items()}
        runtime = {"containerRuntimeEndpoint": f"unix://{lab.socket}"}
        edged = {"hostnameOverride": "edge-1", "nodeIP": V4.edge, "tailoredKubeletConfig": runtime}
        stream = {"enable": True, "server": f"{V4.cloud}:10004", **tls}
        config = site_directory / "edgecore.yaml"
        config.write_text(yaml.safe_dump({"modules": {"edged": edged, "edgeStream": stream}}))
        site.start(site.edge, EDGESTREAM, "--config", str(config))
        eventually(lambda: site.connected() == 1)
        site.start_manager()
        eventually(lambda: site.packets_to(V4.edge) is not None)
        yield site
        site.processes.close()  # before the runtime that the edge agent serves


def kubectl(site: Site, *arguments: str) -> tuple[int, str, str]:
    """Run kubectl on the API server's host: exit code, output, errors."""
    try:
        program = str(find_or_install())
    except ConfigError as error:
        pytest.skip(f"no kubectl here: {error}")
    done = subprocess.run(
        site.cloud.command(program, *arguments),
        env=os.environ
        | {"KUBECONFIG": str(site.directory / "kubeconfig"), "HOME": str(site.directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.timeout(180)
def test_logs_and_exec_pass_through_the_rules(site: Site) -> None:
    assert kubectl(site, "logs", "web") == (0, "from the edge\n", "")
    first = site.packets_to(V4.edge)
    assert first
    found = kubectl(site, "exec", "web", "--", "sh", "-c", "ip address show; exit 7")
    assert found[0] == 7, found
    assert f"inet {V4.edge}/" in found[1]
    second = site.packets_to(V4.edge)
    assert second
    assert second > first
    listening = site.edge.run("ss", "--no-header", "--listening", "--tcp", "--udp", "--numeric")
    # The runtime streams on the loopback; nothing else is there.
    assert all("127.0.0.1:" in line for line in listening.splitlines()), listening
