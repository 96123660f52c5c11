import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from edgestream.cri import cri_pb2
from streamkit.wire.exchange import header_values
from tests.support.node import CREATED, SECOND, ScriptedNode
from tests.support.runtime import container, sandbox
from tests.support.trees import APP_ID, IDLE_ID, POD_UID, SANDBOX_ID
from tests.unit.edgestream.kubelet.pages import Pages, pages_of

LIST = {"kind": "PodList", "apiVersion": "v1", "metadata": {}}
CREATED_AT, STARTED_AT = "2023-11-14T22:15:00Z", "2023-11-14T22:15:01Z"


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    return ScriptedNode(tmp_path, cgroups=1)


@pytest.fixture
async def pages(node: ScriptedNode, tmp_path: Path) -> AsyncIterator[Pages]:
    async with pages_of(node, tmp_path / "cri.sock") as pages:
        yield pages


def end(node: ScriptedNode, container_id: str, exit_code: int) -> None:
    """Let a container have ended."""
    status = node.runtime.statuses[container_id].status
    status.state = cri_pb2.CONTAINER_EXITED
    status.exit_code = exit_code
    status.reason = "Error" if exit_code else "Completed"
    status.finished_at = CREATED + 2 * SECOND
    for each in node.runtime.containers:
        if each.id == container_id:
            each.state = cri_pb2.CONTAINER_EXITED


def running_item(name: str, uid: str, *containers: str) -> dict[str, Any]:
    specifications = [
        {"name": each, "image": f"registry.example/{each}:1", "resources": {}}
        for each in containers
    ]
    return {
        "metadata": {"name": name, "namespace": "default", "uid": uid, "creationTimestamp": None},
        "spec": {"containers": specifications or None},
        "status": {},
    }


async def test_pods_that_run(node: ScriptedNode, pages: Pages) -> None:
    node.runtime.sandboxes += [
        sandbox("s2", created_at=CREATED + 1, pod="empty", uid="u2"),
        sandbox("s3", created_at=CREATED + 2, pod="gone", uid="u3", ready=False),
    ]
    end(node, IDLE_ID, 0)
    head, body = await pages.ask("/runningpods/")
    assert header_values(head.headers, "content-type") == ["application/json"]
    items = [running_item("web", POD_UID, "app"), running_item("empty", "u2")]
    assert body.decode() == json.dumps({**LIST, "items": items}, separators=(",", ":")) + "\n"


async def test_the_slash_belongs_to_it(pages: Pages) -> None:
    head, _ = await pages.ask("/runningpods?a=1")
    assert head.status == 301
    assert header_values(head.headers, "location") == ["/runningpods/?a=1"]


async def test_a_pod(node: ScriptedNode, pages: Pages) -> None:
    labels, annotations = node.runtime.sandboxes[0].labels, node.runtime.sandboxes[0].annotations
    labels["app"], annotations["note"] = "web", "a<b"
    end(node, IDLE_ID, 3)
    head, body = await pages.ask("/pods")
    assert header_values(head.headers, "content-type") == ["application/json"]
    assert b'"a\\u003cb"' in body
    assert body.startswith(
        b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[{"metadata":'
    )
    assert body.endswith(b"]}\n")
    (pod,) = json.loads(body)["items"]
    assert pod["metadata"] == {
        "name": "web",
        "namespace": "default",
        "uid": POD_UID,
        "creationTimestamp": CREATED_AT,
        "labels": {"app": "web"},
        "annotations": {"note": "a<b"},
    }
    assert pod["spec"] == {
        **running_item("web", POD_UID, "app", "idle")["spec"],
        "nodeName": "edge-1",
    }
    app, idle = pod["status"].pop("containerStatuses")
    assert pod["status"] == {
        "phase": "Running",
        "startTime": CREATED_AT,
        "podIP": "10.1.2.3",
        "podIPs": [{"ip": "10.1.2.3"}],
    }
    assert app == {
        "name": "app",
        "state": {"running": {"startedAt": STARTED_AT}},
        "lastState": {},
        "ready": True,
        "restartCount": 0,
        "image": "registry.example/app:1",
        "imageID": "sha256:app",
        "containerID": f"scripted://{APP_ID}",
        "started": True,
    }
    assert (idle["ready"], idle["started"]) == (False, False)
    assert idle["state"] == {
        "terminated": {
            "exitCode": 3,
            "reason": "Error",
            "startedAt": STARTED_AT,
            "finishedAt": "2023-11-14T22:15:02Z",
            "containerID": f"scripted://{IDLE_ID}",
        }
    }


async def test_the_newest_of_each_is_shown(node: ScriptedNode, pages: Pages) -> None:
    node.runtime.sandboxes.insert(
        0, sandbox("older", created_at=CREATED - 1, uid=POD_UID, ready=False)
    )
    node.runtime.containers.append(
        container("older-app", created_at=CREATED - 1, uid=POD_UID, sandbox_id="older")
    )
    node.runtime.containers.append(
        container("newer", created_at=CREATED + 1, name="idle", uid=POD_UID)
    )
    newer = node.runtime.statuses["newer"] = cri_pb2.ContainerStatusResponse()
    newer.status.id, newer.status.metadata.name, newer.status.metadata.attempt = "newer", "idle", 4
    (pod,) = (await pages.get_json("/pods"))["items"]
    shown = {each["name"]: each["containerID"] for each in pod["status"]["containerStatuses"]}
    assert shown == {"app": f"scripted://{APP_ID}", "idle": "scripted://newer"}
    idle = pod["status"]["containerStatuses"][1]
    assert (idle["restartCount"], idle["state"]) == (4, {"waiting": {}})


@pytest.mark.parametrize(
    ("is_ready", "exit_codes", "phase"),
    [
        (True, {}, "Running"),
        (True, {APP_ID: 0, IDLE_ID: 3}, "Running"),
        (False, {APP_ID: 0, IDLE_ID: 0}, "Succeeded"),
        (False, {APP_ID: 0, IDLE_ID: 3}, "Failed"),
    ],
)
async def test_phases(
    node: ScriptedNode, pages: Pages, is_ready: bool, exit_codes: dict[str, int], phase: str
) -> None:
    if not is_ready:
        node.runtime.sandboxes[0].state = cri_pb2.SANDBOX_NOTREADY
    for container_id, exit_code in exit_codes.items():
        end(node, container_id, exit_code)
    (pod,) = (await pages.get_json("/pods"))["items"]
    assert pod["status"]["phase"] == phase


async def test_a_pod_whose_containers_are_still_to_come(node: ScriptedNode, pages: Pages) -> None:
    node.runtime.containers.clear()
    box = node.runtime.sandbox_statuses[SANDBOX_ID].status
    box.network.ip = ""
    box.linux.namespaces.options.network = cri_pb2.NODE
    (pod,) = (await pages.get_json("/pods"))["items"]
    assert pod["spec"] == {"containers": None, "nodeName": "edge-1", "hostNetwork": True}
    status = {"phase": "Pending", "startTime": CREATED_AT, "containerStatuses": []}
    assert pod["status"] == status


@pytest.mark.parametrize("target", ["/pods", "/runningpods/"])
async def test_no_pods(node: ScriptedNode, pages: Pages, target: str) -> None:
    node.runtime.sandboxes.clear()
    assert (await pages.get(target)).decode() == (
        '{"kind":"PodList","apiVersion":"v1","metadata":{},"items":null}\n'
    )


async def test_a_pod_that_is_removed_meanwhile(node: ScriptedNode, pages: Pages) -> None:
    del node.runtime.statuses[IDLE_ID]
    assert (await pages.get_json("/pods"))["items"] is None


@pytest.mark.parametrize("target", ["/pods", "/runningpods/"])
async def test_refusals(node: ScriptedNode, pages: Pages, target: str) -> None:
    head, _ = await pages.ask(target, headers=(("Accept", "text/html"),))
    assert head.status == 406
    head, _ = await pages.ask(target, "POST")
    assert (head.status, header_values(head.headers, "allow")) == (405, ["GET"])
    node.runtime.refusals["ListPodSandbox"] = grpc.StatusCode.UNKNOWN, "no"
    head, body = await pages.ask(target)
    assert (head.status, body) == (500, b"rpc error: code = Unknown desc = no")


async def test_settings(pages: Pages, tmp_path: Path) -> None:
    head, body = await pages.ask("/configz")
    assert header_values(head.headers, "x-content-type-options") == ["nosniff"]
    assert header_values(head.headers, "content-type") == ["application/json"]
    settings = json.loads(body)["kubeletconfig"]
    assert settings["containerRuntimeEndpoint"] == f"unix://{tmp_path}/cri.sock"
    assert settings["runtimeRequestTimeout"] == "5s"
    assert settings["enableSystemLogHandler"] is True
