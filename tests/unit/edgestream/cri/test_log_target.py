"""Which log is read, or what is said, given the API server's facts beside the runtime's."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edgestream.answers import PLAIN_TEXT, KubeletAnswer
from edgestream.cri import cri_pb2
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import CONTAINER_CREATED, CONTAINER_EXITED, CONTAINER_UNKNOWN
from edgestream.cri.log_target import find_log
from edgestream.cri.lookup import RuntimePod
from streamkit.wire.pod_facts import ContainerFacts, PodFacts
from tests.support.runtime import ScriptedRuntime, container, sandbox, serving

LIMIT = 5.0
GONE = "containerd://gone"
RUNNING = container("new", created_at=9)
EXITED = container("new", created_at=9, state=CONTAINER_EXITED)
CRASHED = container("new", created_at=9, state=CONTAINER_EXITED, restart_count=3)
CREATED = container("new", created_at=9, state=CONTAINER_CREATED)
UNKNOWN = container("new", created_at=9, state=CONTAINER_UNKNOWN)
OLD = container("old", created_at=5, state=CONTAINER_EXITED)
BOX = sandbox("s1", created_at=1)
DEAD_BOX = sandbox("s1", created_at=1, ready=False)

APP = 'container "app" in pod "web"'
LOST = f"previous terminated {APP} not found"
NOT_RETRIEVED = f"unable to retrieve container logs for {GONE}"


def waiting(reason: str, last: str = "") -> ContainerFacts:
    return ContainerFacts("app", "waiting", reason, last_id=last)


def running(container_id: str, last: str = "") -> ContainerFacts:
    return ContainerFacts("app", "running", container_id=container_id, last_id=last)


def terminated(container_id: str = "", last: str = "") -> ContainerFacts:
    return ContainerFacts("app", "terminated", container_id=container_id, last_id=last)


def pod(
    *containers: cri_pb2.Container,
    app: ContainerFacts | None = None,
    box: cri_pb2.PodSandbox | None = BOX,
    uid: str = "u1",
    has_init: bool = False,
    is_current: bool = True,
) -> RuntimePod:
    """A pod whose runtime has these, newest first, and whose facts tell of a container ``app``."""
    told = (app,) if app else ()
    facts = PodFacts(uid, uid, told, has_init=has_init, is_current=is_current)
    return RuntimePod("web", "default", (box,) if box else (), containers, facts)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ContainerCreating", "ContainerCreating"),
        ("PodInitializing", "PodInitializing"),
        ("CreateContainerConfigError", "CreateContainerConfigError"),
        ("ErrImagePull", "image can't be pulled"),
        ("ImagePullBackOff", "trying and failing to pull image"),
    ],
)
@pytest.mark.parametrize("box", [BOX, None])
async def test_a_container_that_waits(
    reason: str, words: str, box: cri_pb2.PodSandbox | None, tmp_path: Path
) -> None:
    found = pod(app=waiting(reason), box=box)
    assert found.is_known
    current, previous = await logs_of(found, tmp_path)
    assert (current, previous) == (f"{APP} is waiting to start: {words}", LOST)


@pytest.mark.parametrize(
    ("found", "current", "previous"),
    [
        # No status yet: with a sandbox the kubelet has begun, and has its own default reason.
        (pod(app=ContainerFacts("app"), box=None), f"{APP} is not available", None),
        (
            pod(app=ContainerFacts("app")),
            f"{APP} is waiting to start: ContainerCreating",
            LOST,
        ),
        (
            pod(app=ContainerFacts("app"), has_init=True),
            f"{APP} is waiting to start: PodInitializing",
            LOST,
        ),
        # What the API server knows of, the runtime has removed.
        (pod(app=running(GONE)), NOT_RETRIEVED, LOST),
        (pod(app=terminated(GONE)), NOT_RETRIEVED, LOST),
        (pod(app=terminated("", GONE)), NOT_RETRIEVED, NOT_RETRIEVED),
        (pod(app=waiting("CrashLoopBackOff", GONE)), NOT_RETRIEVED, NOT_RETRIEVED),
        (pod(app=terminated()), f"{APP} is terminated", LOST),
        # It runs whatever is said of it.
        (pod(RUNNING, app=waiting("ImagePullBackOff")), "new", LOST),
        (pod(RUNNING, app=terminated(GONE)), "new", LOST),
        (pod(RUNNING, app=None), "new", LOST),
        (pod(RUNNING, app=waiting("CrashLoopBackOff"), uid="u2"), "new", LOST),
        (pod(RUNNING, OLD, app=waiting("CrashLoopBackOff", GONE)), "new", "old"),
        (pod(RUNNING, app=running("containerd://new", GONE)), "new", NOT_RETRIEVED),
        # The newest has ended: whether it will be started again decides what was before.
        (pod(EXITED, app=waiting("CrashLoopBackOff", "containerd://new")), "new", "new"),
        (pod(EXITED, OLD, app=waiting("CrashLoopBackOff", "containerd://new")), "new", "new"),
        (pod(EXITED, OLD, app=waiting("ImagePullBackOff", "cri-o://new")), "new", "new"),
        (pod(CRASHED, app=terminated("containerd://new")), "new", LOST),
        (pod(CRASHED, OLD, app=terminated("containerd://new")), "new", "old"),
        (pod(CRASHED, OLD, app=running(GONE)), "new", "new"),
        (pod(EXITED, OLD, app=running(GONE)), "new", "old"),
        # It was made and does not start.
        (
            pod(CREATED, app=waiting("RunContainerError")),
            f"{APP} is waiting to start: RunContainerError",
            LOST,
        ),
        (pod(CREATED, OLD, app=waiting("RunContainerError")), "old", "old"),
        (pod(UNKNOWN, app=running("containerd://new")), f"{APP} is waiting to start: ", LOST),
        # A former pod of that name is all that the runtime has.
        (
            pod(EXITED, app=waiting("ContainerCreating"), box=DEAD_BOX, uid="u2"),
            f"{APP} is waiting to start: ContainerCreating",
            LOST,
        ),
        (
            pod(EXITED, OLD, app=waiting("x"), box=DEAD_BOX, uid="u2", is_current=False),
            "new",
            "old",
        ),
        (pod(EXITED, OLD, app=waiting("x"), uid="u2"), "new", "old"),
    ],
)
async def test_a_log(found: RuntimePod, current: str, previous: str | None, tmp_path: Path) -> None:
    assert await logs_of(found, tmp_path) == (current, previous or current)


@pytest.mark.parametrize("box", [BOX, None])
@pytest.mark.parametrize("previous", [False, True])
async def test_a_container_that_the_pod_does_not_have(
    box: cri_pb2.PodSandbox | None, previous: bool, tmp_path: Path
) -> None:
    with pytest.raises(KubeletAnswer) as caught:
        await log_of(pod(box=box), tmp_path, previous=previous)
    refusal = caught.value
    assert (refusal.status, refusal.headers) == (404, PLAIN_TEXT)
    assert refusal.body == 'container "app" not found in pod "web"'


async def test_facts_of_another_pod_say_nothing(tmp_path: Path) -> None:
    found = pod(app=terminated(GONE), uid="u2")
    assert await logs_of(found, tmp_path) == (f"{APP} is waiting to start: ContainerCreating", LOST)


def test_a_pod_that_only_the_api_server_has() -> None:
    found = pod(box=None)
    assert (found.is_known, found.exists, found.uid) == (True, False, "u1")
    old = pod(box=None, is_current=False)
    assert (old.is_known, old.uid) == (False, "u1")


def test_a_static_pods_uid_is_its_mirrors() -> None:
    source = {"kubernetes.io/config.source": "file"}
    facts = PodFacts("mirror", "u1", (), is_current=True)
    box = sandbox("s1", created_at=1, annotations=source)
    found = RuntimePod("web", "default", (box,), (), facts)
    assert [uid for uid in ("mirror", "u1", "other") if found.has_uid(uid, "u1")] == [
        "mirror",
        "u1",
    ]
    # It may have got another mirror by now.
    found = replace(found, facts=replace(facts, is_current=False))
    assert found.has_uid("other", "u1")


async def logs_of(found: RuntimePod, directory: Path) -> tuple[str, str]:
    """What is read, as ``log_of`` says, and what is read as the previous one."""
    current = await log_of(found, directory, previous=False)
    return current, await log_of(found, directory, previous=True)


async def log_of(found: RuntimePod, directory: Path, *, previous: bool) -> str:
    """The id of the container whose log is read, or the body of the 400; other answers raise."""
    runtime = ScriptedRuntime()
    for container_id in ("new", "old"):
        status = cri_pb2.ContainerStatus(id=container_id, exit_code=1)
        runtime.statuses[container_id] = cri_pb2.ContainerStatusResponse(status=status)
    client = CriClient(str(directory / "cri.sock"), call_deadline=LIMIT)
    async with serving(runtime, directory / "cri.sock"), asyncio.timeout(LIMIT):
        try:
            target = await find_log(client, found, "app", previous=previous)
        except KubeletAnswer as refusal:
            if (refusal.status, refusal.headers) != (400, ()):
                raise
            return refusal.body
        finally:
            await client.close()
    return target.container_id
