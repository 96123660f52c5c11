"""``kubectl debug``: an ephemeral container added to a running pod.

On a real node the kubelet makes the container that the Pod object asks for. There is no such
kubelet in the lab, so the stand-in makes it, with the runtime's own calls.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc

from lab.apiserver.call import Call
from lab.apiserver.cripods import CALL_TIMEOUT, EPHEMERAL_LABEL, NAME_LABEL, CriPods
from lab.apiserver.status import bad_request, internal_error, method_not_allowed
from lab.apiserver.store import Object
from lab.apiserver.world import World

START_TIMEOUT = 30.0
"""Seconds for creating a container, and for starting it."""

_TARGET = "TARGET"
_POD_LABELS = {"name": "io.kubernetes.pod.name", "namespace": "io.kubernetes.pod.namespace"}


async def serve_ephemeral(call: Call, world: World, namespace: str, name: str) -> None:
    """Show a pod, or start those of the given ephemeral containers that it does not have yet.

    Raises ApiError: 404, 400 for a pod that no runtime of the lab has, 500 if the runtime refuses.
    """
    pod = await world.get_pod(namespace, name)
    if call.head.method in ("PATCH", "PUT"):
        wanted = _new_containers(call.json(), pod)
        source = world.source_of(pod["spec"].get("nodeName", ""))
        if source is None:
            raise bad_request(f"pod {name} is not in a runtime of the lab")
        for container in wanted:
            try:
                await asyncio.to_thread(start_container, source, pod, container)
            except grpc.RpcError as error:
                details = getattr(error, "details", error.__str__)
                raise internal_error(f"container {container['name']}: {details()}") from error
        pod = await world.get_pod(namespace, name)
    elif call.head.method != "GET":
        raise method_not_allowed()
    await call.answer_json(pod)


def _new_containers(document: Any, pod: Object) -> list[Object]:
    try:
        given = document["spec"]["ephemeralContainers"]
        names = {each["name"] for each in pod["spec"].get("ephemeralContainers", ())}
        return [each for each in given if each["name"] not in names]
    except (KeyError, TypeError) as error:
        raise bad_request("spec.ephemeralContainers is missing, or has no names") from error


def start_container(source: CriPods, pod: Object, wanted: Object) -> None:
    """Create and start one container in the pod's sandbox; blocks, raises ``grpc.RpcError``.

    Its image is the one asked for if the runtime has it, else that of the pod's first container:
    the lab has nowhere to pull from.
    """
    metadata = pod["metadata"]
    labels = {label: metadata[field] for field, label in _POD_LABELS.items()}
    selector = {"label_selector": labels, "state": {"state": "SANDBOX_READY"}}
    sandboxes = source.call("ListPodSandbox", deadline=CALL_TIMEOUT, filter=selector).items
    if not sandboxes:
        raise bad_request(f"pod {metadata['name']} has no sandbox that is ready")
    sandbox_id = sandboxes[0].id
    sandbox = _sandbox_config(source, sandbox_id)
    name = wanted["name"]
    Path(sandbox["log_directory"], name).mkdir(exist_ok=True)
    config = {
        "metadata": {"name": name},
        "image": {"image": _image(source, pod, wanted)},
        "command": wanted.get("command") or [],
        "args": wanted.get("args") or [],
        "envs": [
            {"key": each["name"], "value": each.get("value", "")} for each in wanted.get("env", ())
        ],
        "log_path": f"{name}/0.log",
        "labels": sandbox["labels"] | {NAME_LABEL: name, EPHEMERAL_LABEL: "true"},
        "stdin": bool(wanted.get("stdin")),
        "stdin_once": bool(wanted.get("stdinOnce")),
        "tty": bool(wanted.get("tty")),
        "linux": {"security_context": {"namespace_options": _namespaces(sandbox, pod, wanted)}},
    }
    made = source.call(
        "CreateContainer",
        deadline=START_TIMEOUT,
        pod_sandbox_id=sandbox_id,
        config=config,
        sandbox_config=sandbox,
    )
    source.call("StartContainer", deadline=START_TIMEOUT, container_id=made.container_id)


def _sandbox_config(source: CriPods, sandbox_id: str) -> Object:
    """What the sandbox was made from, as far as its containers have to agree with it."""
    reply = source.call(
        "PodSandboxStatus", deadline=CALL_TIMEOUT, pod_sandbox_id=sandbox_id, verbose=True
    )
    config = json.loads(reply.info["info"])["config"]
    linux = config.get("linux", {})
    options = linux.get("security_context", {}).get("namespace_options", {})
    kept = {key: config[key] for key in ("metadata", "hostname", "log_directory") if key in config}
    return {
        **kept,
        "labels": config.get("labels", {}),
        "linux": {
            "cgroup_parent": linux.get("cgroup_parent", ""),
            "security_context": {"namespace_options": options},
        },
    }


def _namespaces(sandbox: Object, pod: Object, wanted: Object) -> Object:
    """The sandbox's namespaces; with a target that container's processes are in sight."""
    options = dict(sandbox["linux"]["security_context"]["namespace_options"])
    if target := wanted.get("targetContainerName"):
        statuses = pod["status"].get("containerStatuses", ())
        ids = [each["containerID"] for each in statuses if each["name"] == target]
        if not ids:
            raise bad_request(f"target container {target} is not in pod {pod['metadata']['name']}")
        options |= {"pid": _TARGET, "target_id": ids[0].partition("://")[2]}
    return options


def _image(source: CriPods, pod: Object, wanted: Object) -> str:
    images = source.call("ListImages", deadline=CALL_TIMEOUT).images
    known = {tag for image in images for tag in image.repo_tags}
    asked = str(wanted.get("image", ""))
    return asked if asked in known else str(pod["spec"]["containers"][0]["image"])
