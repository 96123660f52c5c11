"""The stream port with our edge agent behind it, and behind that a real containerd."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudSettings
from edgestream.kubelet.cri_backend import CriBackend, NodeFacts
from lab.containerd import Lab, missing
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import connected_edge

EXITED = 2
LOG_LINES = [f"app log line {number}\n".encode() for number in range(3)]
TALK = "for n in 0 1 2; do echo app log line $n; done"
STAY = f"{TALK}; exec sleep 1000"
SERVE = f"{TALK}; exec httpd -f -p 80 -h /www"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A containerd with the pods that the recorded commands name.

    ``app`` in ``single`` has been restarted, and serves port 80; ``pending`` has no container yet;
    ``done`` has ended.
    """
    if lacking := missing():
        pytest.skip(f"this machine lacks {', '.join(lacking)}")
    with Lab(Path(f"/tmp/kr-{os.getpid()}")) as lab:
        _run_pods(lab)
        yield lab


@dataclass(frozen=True, slots=True)
class Node:
    """A connected edge node."""

    cloud: Cloud
    lab: Lab
    version: str
    """Of the tunnel: ``v1`` or ``v2``."""


@pytest.fixture(params=["v2", "v1"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which one the tunnel speaks."""
    spoken: str = request.param
    if spoken == "v1":
        # A cloud that knows no v2 takes nothing of what the edge offers.
        monkeypatch.setattr("cloudstream.tunnel_server.SUBPROTOCOL", "")
    return spoken


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all clouds of these tests have their certificates."""
    return tmp_path_factory.mktemp("pki")


@pytest.fixture
async def node(lab: Lab, pki: Path, tmp_path: Path, version: str) -> AsyncIterator[Node]:
    """The agent serves that containerd, over a tunnel of either version."""
    logs = tmp_path / "log"
    logs.mkdir()
    logs.joinpath("syslog").write_text("a line\n")
    facts = NodeFacts(name="edge-1", root_directory=tmp_path, log_directory=logs)
    async with served(lab, pki, facts) as cloud:
        yield Node(cloud, lab, version)


@asynccontextmanager
async def served(lab: Lab, pki: Path, facts: NodeFacts) -> AsyncIterator[Cloud]:
    """The cloud with a containerd's node connected.

    No session ends because the cloud has waited long enough for its client to close.
    """
    backend = CriBackend(f"unix://{lab.socket}", call_deadline=20, dial_deadline=5, node=facts)
    deadlines = CloudDeadlines(close=600)
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=deadlines)
    try:
        async with running_cloud(pki, settings) as cloud, connected_edge(cloud, backend.serve):
            yield cloud
    finally:
        await backend.close()


def _run_pods(lab: Lab) -> None:
    web = lab.run_pod("web", host_network=not lab.has_network)
    lab.run_container(web, "init-db", ["sh", "-c", TALK])
    lab.run_container(web, "app", ["sh", "-c", STAY])
    lab.run_container(web, "sidecar", ["sh", "-c", f"{TALK}; exec cat"], stdin=True)
    deflt = lab.run_pod("deflt", host_network=True)
    lab.run_container(deflt, "sidecar", ["sh", "-c", STAY])
    single = lab.run_pod("single", host_network=not lab.has_network)
    first = lab.run_container(single, "app", ["sh", "-c", TALK])
    while lab.cri("ContainerStatus", container_id=first).status.state != EXITED:
        pass
    lab.run_container(
        single,
        "app",
        ["sh", "-c", SERVE if lab.has_network else STAY],
        metadata={"name": "app", "attempt": 1},
        log_path="app/1.log",
        working_dir="/tmp",
    )
    static = lab.run_pod("static-web-edge-1", host_network=True)
    lab.run_container(static, "app", ["sh", "-c", STAY])
    debugged = lab.run_pod("dbg", host_network=True)
    lab.run_container(debugged, "dbg", ["sh"], stdin=True, tty=True)
    lab.run_pod("pending", host_network=True)
    done = lab.run_pod("done", host_network=True)
    lab.run_container(done, "app", ["sh", "-c", TALK])
