import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from edgestream.answers import PLAIN_TEXT, KubeletAnswer
from edgestream.cri import cri_pb2
from edgestream.cri.client import CriClient, runtime_answer
from streamkit.errors import RuntimeUnavailable
from tests.support.runtime import ScriptedRuntime, container, sandbox, serving
from tests.support.wait import until

PATIENT = 30.0
"""A call deadline that a test would notice: nothing here may wait for it."""
LIMIT = 5.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cri.sock"


@pytest.fixture
async def client(path: Path) -> AsyncIterator[CriClient]:
    client = CriClient(f"unix://{path}", call_deadline=PATIENT)
    yield client
    await client.close()
    await client.close()


async def test_lists_by_labels(client: CriClient, path: Path) -> None:
    runtime = ScriptedRuntime()
    runtime.sandboxes = [sandbox("s1", created_at=1), sandbox("s2", created_at=1, pod="other")]
    runtime.containers = [container("c1", created_at=2), container("c2", created_at=2, pod="other")]
    labels = {"io.kubernetes.pod.name": "web"}
    async with serving(runtime, path), asyncio.timeout(LIMIT):
        assert [box.id for box in await client.sandboxes(labels)] == ["s1"]
        assert [item.id for item in await client.containers(labels)] == ["c1"]


async def test_takes_answers_larger_than_grpc_allows_by_default(
    client: CriClient, path: Path
) -> None:
    runtime = ScriptedRuntime()
    notes = {"note": "x" * (5 << 20)}
    runtime.sandboxes = [sandbox("s1", created_at=1, annotations=notes)]
    async with serving(runtime, path), asyncio.timeout(LIMIT):
        assert len((await client.sandboxes({}))[0].annotations["note"]) == 5 << 20


async def test_takes_a_bare_path(path: Path) -> None:
    client = CriClient(str(path), call_deadline=PATIENT)
    async with serving(ScriptedRuntime(), path), asyncio.timeout(LIMIT):
        assert (await client.version()).runtime_name == "scripted"
        await client.close()


async def test_a_missing_socket_fails_at_once_and_is_named(client: CriClient, path: Path) -> None:
    async with asyncio.timeout(LIMIT):
        with pytest.raises(RuntimeUnavailable, match=f"{path}: No such file or directory"):
            await client.version()


async def test_a_socket_without_listener_fails_at_once(client: CriClient, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unheard:
        unheard.bind(str(path))
    async with asyncio.timeout(LIMIT):
        for _ in range(3):
            with pytest.raises(
                RuntimeUnavailable, match=f"reached on {path}: nobody answers there"
            ):
                await client.version()


async def test_what_is_no_socket_is_told(client: CriClient, path: Path) -> None:
    await asyncio.to_thread(path.touch)
    with pytest.raises(RuntimeUnavailable, match=f"{path}: it is no socket"):
        await client.version()


async def test_a_socket_without_permission_is_told(
    client: CriClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may open everything, so others' eyes are borrowed.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(path))
        with pytest.raises(RuntimeUnavailable, match=f"{path}: this process may not open it"):
            await client.version()


async def test_a_runtime_of_another_kind_is_told(tmp_path: Path) -> None:
    if not (program := shutil.which("containerd")):
        pytest.skip("no containerd here")
    endpoint, config = tmp_path / "c.sock", tmp_path / "config.toml"
    config.write_text(
        f'''version = 2
root = "{tmp_path}/root"
state = "{tmp_path}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{endpoint}"
'''
    )
    process = await asyncio.create_subprocess_exec(
        program, "--config", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    client = CriClient(str(endpoint), call_deadline=5)
    try:
        await until(endpoint.exists, deadline=LIMIT)
        with pytest.raises(RuntimeUnavailable, match=f"{endpoint} does not speak CRI v1") as told:
            await client.version()
        assert "plugin cri" in told.value.hint
    finally:
        await client.close()
        process.kill()
        await process.wait()


async def test_recovers_once_the_runtime_is_back(client: CriClient, path: Path) -> None:
    async def until_it_answers() -> None:
        while True:
            try:
                await client.version()
            except RuntimeUnavailable:
                await asyncio.sleep(0.01)
            else:
                return

    async with asyncio.timeout(LIMIT):
        for _ in range(2):
            async with serving(ScriptedRuntime(), path):
                await until_it_answers()
            with pytest.raises(RuntimeUnavailable):
                await client.version()


async def test_silence_ends_at_the_deadline(path: Path) -> None:
    runtime = ScriptedRuntime()
    runtime.stalled = {"Version"}
    client = CriClient(str(path), call_deadline=0.05)
    async with serving(runtime, path), asyncio.timeout(LIMIT):
        with pytest.raises(RuntimeUnavailable, match=r"did not answer within 0\.05 s"):
            await client.version()
        await client.close()


@pytest.mark.parametrize(
    ("code", "status", "body"),
    [
        (grpc.StatusCode.NOT_FOUND, 404, "rpc error: code = NotFound desc = no c9"),
        (grpc.StatusCode.UNKNOWN, 500, "rpc error: code = Unknown desc = no c9"),
        (grpc.StatusCode.INVALID_ARGUMENT, 500, "rpc error: code = InvalidArgument desc = no c9"),
        (grpc.StatusCode.CANCELLED, 500, "rpc error: code = Canceled desc = no c9"),
    ],
)
def test_refusals_read_as_from_a_kubelet(code: grpc.StatusCode, status: int, body: str) -> None:
    answer = runtime_answer(code, "no c9")
    assert (answer.status, answer.body, answer.headers) == (status, body, PLAIN_TEXT)


async def test_exhaustion_tells_when_to_come_back(client: CriClient, path: Path) -> None:
    runtime = ScriptedRuntime()
    runtime.refusals["Exec"] = grpc.StatusCode.RESOURCE_EXHAUSTED, "too many"
    async with serving(runtime, path), asyncio.timeout(LIMIT):
        with pytest.raises(KubeletAnswer) as caught:
            await client.exec_url(cri_pb2.ExecRequest(container_id="c1", cmd=["id"]))
    assert caught.value.status == 429
    assert caught.value.headers == (*PLAIN_TEXT, ("Retry-After", "60"))
    assert caught.value.body == "rpc error: code = ResourceExhausted desc = too many"


async def test_cancelling_a_call_leaves_the_client_usable(client: CriClient, path: Path) -> None:
    runtime = ScriptedRuntime()
    runtime.stalled = {"Version"}
    async with serving(runtime, path), asyncio.timeout(LIMIT):
        call = asyncio.create_task(client.version())
        await runtime.called.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        runtime.stalled.clear()
        assert (await client.version()).runtime_name == "scripted"


async def test_a_command_has_a_deadline_of_its_own(client: CriClient, path: Path) -> None:
    runtime = ScriptedRuntime()
    runtime.stalled = {"ExecSync"}
    async with serving(runtime, path), asyncio.timeout(LIMIT):
        with pytest.raises(RuntimeUnavailable, match=r"did not answer within 0\.05 s"):
            await client.exec_sync("c1", ["sleep", "1d"], deadline=0.05)
        assert runtime.requests == [cri_pb2.ExecSyncRequest(container_id="c1", cmd=["sleep", "1d"])]


async def test_both_services_of_the_runtime_are_asked(client: CriClient, path: Path) -> None:
    runtime = ScriptedRuntime()
    runtime.image_filesystems = [cri_pb2.FilesystemUsage(timestamp=7)]
    async with serving(runtime, path), asyncio.timeout(LIMIT):
        assert [each.timestamp for each in await client.image_filesystems()] == [7]
        assert await client.container_stats() == []
        await client.close()
        assert (await client.version()).runtime_name == "scripted"
