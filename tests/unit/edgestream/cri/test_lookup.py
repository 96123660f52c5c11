import asyncio
from pathlib import Path

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.cri import cri_pb2
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import (
    CONTAINER_CREATED,
    CONTAINER_EXITED,
    CONTAINER_RUNNING,
    CONTAINER_UNKNOWN,
)
from edgestream.cri.log_target import find_log
from edgestream.cri.lookup import RuntimePod, find_pod
from tests.support.runtime import ScriptedRuntime, container, sandbox, serving

LIMIT = 5.0


def pod(
    sandboxes: tuple[cri_pb2.PodSandbox, ...] = (), containers: tuple[cri_pb2.Container, ...] = ()
) -> RuntimePod:
    """A pod as ``find_pod`` returns it: the test gives its parts newest first."""
    return RuntimePod("web", "default", sandboxes, containers)


async def test_sorts_by_creation_and_asks_for_one_pod_only(tmp_path: Path) -> None:
    runtime = ScriptedRuntime()
    runtime.sandboxes = [
        sandbox("old", created_at=1),
        sandbox("new", created_at=9),
        sandbox("other", created_at=99, pod="other"),
    ]
    runtime.containers = [container("c1", created_at=2), container("c2", created_at=3)]
    client = CriClient(str(tmp_path / "cri.sock"), call_deadline=LIMIT)
    async with serving(runtime, tmp_path / "cri.sock"), asyncio.timeout(LIMIT):
        found = await find_pod(client, "default", "web")
        missing = await find_pod(client, "default", "nope")
        await client.close()
    assert [box.id for box in found.sandboxes] == ["new", "old"]
    assert [item.id for item in found.containers] == ["c2", "c1"]
    assert found.exists
    assert not missing.exists
    assert missing.uid == ""


class TestStreamTarget:
    def test_is_in_the_newest_active_pod(self) -> None:
        found = pod(
            (sandbox("s2", created_at=2, uid="u2"), sandbox("s1", created_at=1)),
            (container("c2", created_at=4, uid="u2"), container("c1", created_at=3)),
        )
        running = found.running_container("app")
        assert running
        assert running.id == "c2"

    def test_is_never_in_an_older_pod(self) -> None:
        found = pod(
            (sandbox("s2", created_at=2, uid="u2"), sandbox("s1", created_at=1)),
            (container("c1", created_at=3),),
        )
        assert found.running_container("app") is None

    def test_ignores_sandboxes_that_are_not_ready(self) -> None:
        found = pod(
            (sandbox("s2", created_at=2, uid="u2", ready=False), sandbox("s1", created_at=1)),
            (container("c1", created_at=3),),
        )
        running = found.running_container("app")
        assert running
        assert running.id == "c1"
        assert found.uid == "u2"

    @pytest.mark.parametrize("state", [CONTAINER_CREATED, CONTAINER_EXITED, CONTAINER_UNKNOWN])
    def test_has_to_run(self, state: cri_pb2.ContainerState) -> None:
        found = pod((sandbox("s1", created_at=1),), (container("c1", created_at=3, state=state),))
        assert found.running_container("app") is None

    def test_can_run_without_a_ready_sandbox(self) -> None:
        found = pod((sandbox("s1", created_at=1, ready=False),), (container("c1", created_at=3),))
        assert found.running_container("app") is not None
        assert found.running_container("other") is None


class TestForwardSandbox:
    def test_is_the_newest_of_the_active_pod_in_any_state(self) -> None:
        found = pod(
            (
                sandbox("s3", created_at=3, uid="u2", ready=False),
                sandbox("s2", created_at=2, ready=False),
                sandbox("s1", created_at=1),
            )
        )
        assert found.forward_sandbox().id == "s2"

    def test_needs_an_active_pod(self) -> None:
        with pytest.raises(KubeletAnswer) as caught:
            pod((sandbox("s1", created_at=1, ready=False),)).forward_sandbox()
        assert (caught.value.status, caught.value.body) == (500, 'pod not found ("web_default")')

    def test_needs_a_sandbox(self) -> None:
        with pytest.raises(KubeletAnswer) as caught:
            pod((), (container("c1", created_at=1),)).forward_sandbox()
        assert caught.value.status == 500
        assert caught.value.body == "failed to find sandboxID for pod web_default(u1)"


def test_a_static_pods_uid_is_not_compared() -> None:
    source = {"kubernetes.io/config.source": "file"}
    static = pod((sandbox("s1", created_at=1, annotations=source),))
    plain = pod((sandbox("s1", created_at=1, annotations={"kubernetes.io/config.source": "api"}),))
    assert static.has_uid("mirror", "u1")
    assert plain.has_uid("u1", "u1")
    assert not plain.has_uid("mirror", "u1")


RUNNING = container("new", created_at=9)
EXITED = container("new", created_at=9, state=CONTAINER_EXITED)
CRASHED = container("new", created_at=9, state=CONTAINER_EXITED, restart_count=3)
CREATED = container("new", created_at=9, state=CONTAINER_CREATED)
UNKNOWN = container("new", created_at=9, state=CONTAINER_UNKNOWN)
OLD = container("old", created_at=5, state=CONTAINER_EXITED)
OLD_CREATED = container("old", created_at=5, state=CONTAINER_CREATED)
OLDEST = container("oldest", created_at=1, state=CONTAINER_EXITED)

LOST = 'previous terminated container "app" in pod "web" not found'
WAITS = 'container "app" in pod "web" is waiting to start: '


@pytest.mark.parametrize(
    ("containers", "current", "previous"),
    [
        ((RUNNING,), "new", LOST),
        ((RUNNING, OLD), "new", "old"),
        ((RUNNING, OLD, OLDEST), "new", "old"),
        ((RUNNING, OLD_CREATED, OLDEST), "new", LOST),
        ((EXITED,), "new", LOST),
        ((EXITED, OLD), "new", "old"),
        ((CRASHED, OLD), "new", "new"),
        ((CRASHED,), "new", "new"),
        ((CREATED, OLD), "old", "old"),
        ((CREATED,), WAITS, LOST),
        ((UNKNOWN, OLD), "old", "old"),
        ((UNKNOWN,), WAITS, LOST),
        ((), f"{WAITS}ContainerCreating", LOST),
    ],
)
async def test_log_target(
    containers: tuple[cri_pb2.Container, ...], current: str, previous: str, tmp_path: Path
) -> None:
    found = pod((sandbox("s1", created_at=1),), containers)
    assert await log_or_refusal(found, tmp_path, previous=False) == current
    assert await log_or_refusal(found, tmp_path, previous=True) == previous


@pytest.mark.parametrize(("ready", "exit_code"), [(False, 1), (True, 0)])
async def test_the_last_run_is_not_previous_to_itself(
    ready: bool, exit_code: int, tmp_path: Path
) -> None:
    found = pod((sandbox("s1", created_at=1, ready=ready),), (CRASHED, OLD))
    log = await log_or_refusal(found, tmp_path, previous=True, exit_code=exit_code)
    assert log == "old"


async def test_logs_are_found_across_the_sandboxes_of_the_newest_pod(tmp_path: Path) -> None:
    found = pod(
        (
            sandbox("s3", created_at=30, uid="u2"),
            sandbox("s2", created_at=20, uid="u2", ready=False),
            sandbox("s1", created_at=10),
        ),
        (
            container("foreign", created_at=40, state=CONTAINER_RUNNING),
            container("c2", created_at=21, uid="u2", state=CONTAINER_EXITED),
        ),
    )
    assert await log_or_refusal(found, tmp_path, previous=False) == "c2"


async def test_a_container_that_was_removed_meanwhile_is_a_readable_error(tmp_path: Path) -> None:
    gone = container("gone", created_at=5)
    found = pod((sandbox("s1", created_at=1),), (gone,))
    body = await log_or_refusal(found, tmp_path, previous=False)
    assert body == "unable to retrieve container logs for containerd://gone"


async def log_or_refusal(
    found: RuntimePod, directory: Path, *, previous: bool, exit_code: int = 1
) -> str:
    """The id of the container whose log is read, or the body of the 400."""
    runtime = ScriptedRuntime()
    for container_id in ("new", "old", "c2"):
        status = cri_pb2.ContainerStatus(
            id=container_id, exit_code=exit_code, log_path=f"/logs/{container_id}"
        )
        runtime.statuses[container_id] = cri_pb2.ContainerStatusResponse(status=status)
    client = CriClient(str(directory / "cri.sock"), call_deadline=LIMIT)
    async with serving(runtime, directory / "cri.sock"), asyncio.timeout(LIMIT):
        try:
            target = await find_log(client, found, "app", previous=previous)
        except KubeletAnswer as refusal:
            return refusal.body if (refusal.status, refusal.headers) == (400, ()) else "no 400"
        finally:
            await client.close()
    assert target.log_path == f"/logs/{target.container_id}"
    return target.container_id
