"""Pods made from what a CRI says, with a CRI that is scripted."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from lab.apiserver.config import NodeConfig
from lab.apiserver.cripods import CriPods

CREATED, RUNNING, EXITED = 0, 1, 2
READY, NOT_READY = 0, 1
SECOND = 10**9


class ScriptedCri:
    """Answers the four calls from its lists, and counts."""

    def __init__(self) -> None:
        self.sandboxes: list[Any] = []
        self.containers: list[Any] = []
        self.asked: list[str] = []
        self.host_network = 0

    def add_sandbox(self, sandbox_id: str = "s1", *, state: int = READY, made: int = 1) -> None:
        metadata = SimpleNamespace(name="web", namespace="default", uid="u1")
        labels = {"io.kubernetes.pod.name": "web", "app": "web"}
        self.sandboxes.append(
            SimpleNamespace(
                id=sandbox_id,
                state=state,
                metadata=metadata,
                created_at=made * SECOND,
                labels=labels,
                annotations={"note": "x"},
            )
        )

    def add_container(
        self,
        container_id: str,
        state: int,
        *,
        attempt: int = 0,
        exit_code: int = 0,
        sandbox_id: str = "s1",
        **config: Any,
    ) -> None:
        self.containers.append(
            SimpleNamespace(
                id=container_id,
                pod_sandbox_id=sandbox_id,
                state=state,
                created_at=(attempt + 1) * SECOND,
                metadata=SimpleNamespace(name="app", attempt=attempt),
                labels={"io.kubernetes.container.name": "app"},
                image=SimpleNamespace(image="busybox"),
                started_at=0 if state == CREATED else (attempt + 2) * SECOND,
                finished_at=(attempt + 3) * SECOND if state == EXITED else 0,
                exit_code=exit_code,
                config=config,
            )
        )

    def __call__(self, method: str, *, deadline: float, **fields: Any) -> Any:
        self.asked.append(method)
        match method:
            case "ListPodSandbox":
                return SimpleNamespace(items=self.sandboxes)
            case "ListContainers":
                return SimpleNamespace(containers=self.containers)
            case "PodSandboxStatus":
                options = SimpleNamespace(network=self.host_network)
                linux = SimpleNamespace(namespaces=SimpleNamespace(options=options))
                network = SimpleNamespace(ip="10.222.0.2")
                return SimpleNamespace(status=SimpleNamespace(linux=linux, network=network))
            case _:
                found = next(each for each in self.containers if each.id == fields["container_id"])
                info = {"info": json.dumps({"config": found.config})}
                return SimpleNamespace(status=found, info=info)


@pytest.fixture
def cri() -> ScriptedCri:
    return ScriptedCri()


@pytest.fixture
def pods(cri: ScriptedCri) -> CriPods:
    return CriPods(cri, NodeConfig(name="edge-1", address="10.99.0.1"))


def read_one(pods: CriPods) -> dict[str, Any]:
    found = pods.read()
    assert list(found) == [("default", "web")]
    return found["default", "web"]


def test_a_running_pod(cri: ScriptedCri, pods: CriPods) -> None:
    cri.add_sandbox()
    cri.add_container("c1", RUNNING, tty=True, stdin=True, command=["sh"])
    pod = read_one(pods)
    assert pod["metadata"]["uid"] == "u1"
    assert pod["metadata"]["labels"] == {"app": "web"}
    assert pod["metadata"]["annotations"] == {"note": "x"}
    assert pod["spec"]["nodeName"] == "edge-1"
    (container,) = pod["spec"]["containers"]
    assert (container["name"], container["tty"], container["stdin"]) == ("app", True, True)
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"] == "10.222.0.2"
    assert pod["status"]["hostIP"] == "10.99.0.1"
    (status,) = pod["status"]["containerStatuses"]
    assert status["containerID"] == "containerd://c1"
    assert status["ready"]
    assert status["state"] == {"running": {"startedAt": "1970-01-01T00:00:02Z"}}
    assert status["lastState"] == {}


def test_a_restarted_container_shows_its_last_state(cri: ScriptedCri, pods: CriPods) -> None:
    cri.add_sandbox()
    cri.add_container("c2", RUNNING, attempt=1)
    cri.add_container("c1", EXITED, exit_code=3)
    (status,) = read_one(pods)["status"]["containerStatuses"]
    assert status["containerID"] == "containerd://c2"
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["lastState"]["terminated"]["containerID"] == "containerd://c1"


@pytest.mark.parametrize(
    ("sandbox", "container", "exit_code", "phase", "state"),
    [
        (READY, CREATED, 0, "Pending", "waiting"),
        (READY, RUNNING, 0, "Running", "running"),
        (READY, EXITED, 1, "Running", "terminated"),
        (NOT_READY, EXITED, 0, "Succeeded", "terminated"),
        (NOT_READY, EXITED, 1, "Failed", "terminated"),
    ],
)
def test_phases_and_states(
    cri: ScriptedCri,
    pods: CriPods,
    sandbox: int,
    container: int,
    exit_code: int,
    phase: str,
    state: str,
) -> None:
    cri.add_sandbox(state=sandbox)
    cri.add_container("c1", container, exit_code=exit_code)
    status = read_one(pods)["status"]
    assert status["phase"] == phase
    assert list(status["containerStatuses"][0]["state"]) == [state]


def test_the_newest_sandbox_of_a_pod_counts(cri: ScriptedCri, pods: CriPods) -> None:
    cri.add_sandbox("s2", made=5)
    cri.add_sandbox("s1", state=NOT_READY)
    cri.add_container("c1", RUNNING, sandbox_id="s2")
    assert read_one(pods)["status"]["phase"] == "Running"


def test_a_pod_on_the_hosts_network_has_the_nodes_address(cri: ScriptedCri, pods: CriPods) -> None:
    cri.host_network = 2
    cri.add_sandbox()
    pod = read_one(pods)
    assert pod["spec"]["hostNetwork"]
    assert pod["status"]["podIP"] == "10.99.0.1"


def test_details_are_asked_for_once_per_state(cri: ScriptedCri, pods: CriPods) -> None:
    cri.add_sandbox()
    cri.add_container("c1", RUNNING)
    pods.read()
    cri.asked.clear()
    assert pods.read()
    assert cri.asked == ["ListPodSandbox", "ListContainers"]
    cri.containers.clear()
    cri.add_container("c1", EXITED, exit_code=7)
    (status,) = read_one(pods)["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 7
