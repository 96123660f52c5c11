"""Pods that the API server knows better than the runtime does, with a real kubectl and containerd.

Each text is the kubelet's own, as kubectl shows it.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from lab.containerd import Lab, Pod
from lab.layout import NODE_NAME
from tests.e2e.conftest import NewStack
from tests.e2e.kubectl import Kubectl
from tests.e2e.pods import run_pod, wait_for_end
from tests.e2e.stack import Document

HASH = "5f4dcc3b5aa765d61d8327deb882cf99"
"""The uid that a kubelet gave its static pod."""
MIRROR = str(uuid.uuid4())
GONE = "containerd://" + "0" * 64
BAD_REQUEST = "Error from server (BadRequest): "


def pod_object(uid: str, *statuses: Document, **metadata: Any) -> Document:
    """What is particular about a Pod with those containers."""
    containers = [{"name": each["name"], "image": "any"} for each in statuses]
    return {
        "metadata": {"uid": uid, **metadata},
        "spec": {"containers": containers},
        "status": {"containerStatuses": list(statuses)},
    }


def waiting(reason: str, last: str = "", name: str = "app") -> Document:
    """The status of a container that waits, and whose last run was that one."""
    state = {"terminated": {"exitCode": 1, "containerID": last}} if last else {}
    return {"name": name, "state": {"waiting": {"reason": reason}}, "lastState": state}


@pytest.fixture(scope="module")
def kubectl(runtime: Lab, new_stack: NewStack) -> Iterator[Kubectl]:
    boxes = {name: run_pod(runtime, name) for name in ("pulling", "crashing", "living", "reborn")}
    source = {"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": HASH}
    boxes["static"] = run_pod(runtime, "static", uid=HASH, annotations=source)
    try:
        yield new_stack(pods=run_containers(runtime, boxes)).kubectl
    finally:
        for box in boxes.values():
            runtime.remove_pod(box.id)


def run_containers(runtime: Lab, boxes: dict[str, Pod]) -> dict[str, Document]:
    """Run what there is to run, and return what the API server is to say of it."""
    uids = {name: box.config["metadata"]["uid"] for name, box in boxes.items()}
    script = ["sh", "-c", "echo last words; exit 1"]
    crashed = runtime.run_container(boxes["crashing"], "app", script)
    runtime.run_container(boxes["living"], "app", ["sh", "-c", "echo alive; sleep 9999"])
    former = runtime.run_container(boxes["reborn"], "app", script)
    wait_for_end(runtime, crashed)
    wait_for_end(runtime, former)
    runtime.cri("StopPodSandbox", pod_sandbox_id=boxes["reborn"].id)
    runtime.run_container(boxes["static"], "app", ["sh", "-c", "echo static; sleep 9999"])
    initial = pod_object(str(uuid.uuid4()), waiting("PodInitializing"))
    initial["spec"]["initContainers"] = [{"name": "setup", "image": "any"}]
    setup = {"name": "setup", "state": {"terminated": {"exitCode": 0, "containerID": GONE}}}
    initial["status"]["initContainerStatuses"] = [setup]
    new = {"name": "app", "image": "any"}
    return {
        "unborn": pod_object(str(uuid.uuid4()), waiting("ContainerCreating")),
        "unseen": {"spec": {"containers": [new]}, "status": {"containerStatuses": []}},
        "initial": initial,
        "pulling": pod_object(
            uids["pulling"], waiting("ImagePullBackOff"), waiting("ErrImagePull", name="side")
        ),
        "crashing": pod_object(
            uids["crashing"], waiting("CrashLoopBackOff", f"containerd://{crashed}")
        ),
        "living": pod_object(uids["living"], waiting("CrashLoopBackOff", GONE)),
        "reborn": pod_object(str(uuid.uuid4()), waiting("CreateContainerConfigError")),
        "static": pod_object(
            MIRROR,
            {"name": "app", "state": {"running": {}}},
            annotations={"kubernetes.io/config.mirror": HASH},
        ),
    }


def refusal(kubectl: Kubectl, *arguments: str) -> str:
    """What a command that has to fail says."""
    done = kubectl(*arguments)
    assert done.code == 1, done
    assert done.out == b""
    return done.err.strip()


@pytest.mark.parametrize(
    ("pod", "container", "why"),
    [
        ("unborn", "app", "is waiting to start: ContainerCreating"),
        ("unseen", "app", "is not available"),
        ("initial", "app", "is waiting to start: PodInitializing"),
        ("pulling", "app", "is waiting to start: trying and failing to pull image"),
        ("pulling", "side", "is waiting to start: image can't be pulled"),
        ("reborn", "app", "is waiting to start: CreateContainerConfigError"),
    ],
)
def test_logs_of_a_container_that_waits(
    kubectl: Kubectl, pod: str, container: str, why: str
) -> None:
    told = refusal(kubectl, "logs", pod, "-c", container)
    assert told == f'{BAD_REQUEST}container "{container}" in pod "{pod}" {why}'


@pytest.mark.parametrize("pod", ["unborn", "pulling", "reborn"])
def test_there_was_no_previous_one(kubectl: Kubectl, pod: str) -> None:
    told = refusal(kubectl, "logs", pod, "-c", "app", "--previous")
    assert told == (f'{BAD_REQUEST}previous terminated container "app" in pod "{pod}" not found')


def test_a_crash_loop_shows_its_last_run_as_the_previous_one_too(kubectl: Kubectl) -> None:
    assert kubectl.ok("logs", "crashing").lines == ["last words"]
    assert kubectl.ok("logs", "crashing", "--previous").lines == ["last words"]


def test_a_container_that_is_gone_from_the_runtime_is_told(kubectl: Kubectl) -> None:
    told = f"{BAD_REQUEST}unable to retrieve container logs for {GONE}"
    assert refusal(kubectl, "logs", "initial", "-c", "setup") == told
    assert refusal(kubectl, "logs", "living", "--previous") == told


def test_a_container_that_runs_is_served_whatever_is_said_of_it(kubectl: Kubectl) -> None:
    assert kubectl.ok("logs", "living").lines == ["alive"]
    assert kubectl.ok("exec", "living", "--", "echo", "hello").lines == ["hello"]


@pytest.mark.parametrize("pod", ["unborn", "pulling"])
def test_nothing_runs_there_yet(kubectl: Kubectl, pod: str) -> None:
    told = refusal(kubectl, "exec", pod, "-c", "app", "--", "true")
    assert told.endswith('unable to upgrade connection: container not found ("app")'), told


def test_no_ports_are_open_there_yet(kubectl: Kubectl) -> None:
    told = refusal(kubectl, "port-forward", "unborn", ":80")
    assert told.endswith('unable to upgrade connection: pod not found ("unborn_default")'), told


def raw(kubectl: Kubectl, path: str) -> str:
    """What the node's kubelet refuses, asked by the node proxy."""
    return refusal(kubectl, "get", "--raw", f"/api/v1/nodes/{NODE_NAME}/proxy{path}")


def test_a_container_that_the_pod_does_not_have(kubectl: Kubectl) -> None:
    told = refusal(kubectl, "logs", "pulling", "-c", "other")
    assert "container other is not valid for pod pulling" in told
    told = raw(kubectl, "/containerLogs/default/pulling/other")
    assert 'container "other" not found in pod "pulling"' in told


@pytest.mark.parametrize("uid", [MIRROR, HASH])
def test_a_static_pod_has_the_uid_of_its_mirror(kubectl: Kubectl, uid: str) -> None:
    assert kubectl.ok("logs", "static").lines == ["static"]
    for path in (
        f"/portForward/default/static/{uid}",
        f"/attach/default/static/{uid}/app?output=1",
    ):
        assert "Upgrade request required" in raw(kubectl, path)


def test_a_static_pod_has_no_other_uid(kubectl: Kubectl) -> None:
    other = str(uuid.uuid4())
    assert "pod not found" in raw(kubectl, f"/portForward/default/static/{other}")
    told = raw(kubectl, f"/attach/default/static/{other}/app?output=1")
    assert "pod static_default not found" in told
