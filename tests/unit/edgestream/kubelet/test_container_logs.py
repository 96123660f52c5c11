import asyncio
from pathlib import Path

import grpc
import pytest

from edgestream.cri import cri_pb2
from edgestream.kubelet.cri_backend import CriBackend
from edgestream.kubelet.serve import answer
from streamkit.wire.exchange import RequestHead, ResponseHead
from tests.support.exchange import MemoryExchange, ask
from tests.support.runtime import ScriptedRuntime, container

LIMIT = 10.0
TARGET = "/containerLogs/default/web/app"
RECORD = "2024-05-01T10:00:00.1Z stdout F {}\n"


@pytest.fixture
def log(tmp_path: Path, runtime: ScriptedRuntime) -> Path:
    """The log file of ``c1``, which runs."""
    path = tmp_path / "0.log"
    path.write_text(RECORD.format("one") + RECORD.format("two"))
    tell_status(runtime, "c1", cri_pb2.CONTAINER_RUNNING, path)
    return path


def tell_status(
    runtime: ScriptedRuntime, container_id: str, state: cri_pb2.ContainerState, path: Path | str
) -> None:
    status = cri_pb2.ContainerStatus(id=container_id, state=state, log_path=str(path))
    runtime.statuses[container_id] = cri_pb2.ContainerStatusResponse(status=status)


def append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(RECORD.format(line))


def empty(path: Path) -> None:
    path.write_text("")


def remove(path: Path) -> None:
    path.unlink()


async def ask_logs(backend: CriBackend, target: str) -> tuple[ResponseHead, bytes]:
    async with asyncio.timeout(LIMIT):
        return await ask(backend, RequestHead("GET", target))


async def test_a_log(backend: CriBackend, log: Path) -> None:
    assert await ask_logs(backend, TARGET) == (ResponseHead(200), b"one\ntwo\n")
    assert await ask_logs(backend, f"{TARGET}?tailLines=1") == (ResponseHead(200), b"two\n")


async def test_the_previous_log(
    backend: CriBackend, runtime: ScriptedRuntime, log: Path, tmp_path: Path
) -> None:
    exited = cri_pb2.CONTAINER_EXITED
    runtime.containers.append(container("c0", created_at=1, state=exited))
    old = tmp_path / "old.log"
    old.write_text(RECORD.format("old"))
    tell_status(runtime, "c0", exited, old)
    assert await ask_logs(backend, f"{TARGET}?previous=true") == (ResponseHead(200), b"old\n")


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        (
            "/containerLogs/default/nope/app?tailLines=x",
            400,
            '{"message": "Unable to decode query."}',
        ),
        ("/containerLogs/default/nope/app?tailLines=-1", 422, '{"message": "Invalid request."}'),
        ("/containerLogs/default/nope/app", 404, 'pod "nope" does not exist'),
        (
            "/containerLogs/default/web/nope",
            400,
            'container "nope" in pod "web" is waiting to start: ContainerCreating',
        ),
        (
            f"{TARGET}?previous=1",
            400,
            'previous terminated container "app" in pod "web" not found',
        ),
    ],
)
async def test_errors_in_their_order(
    backend: CriBackend, log: Path, target: str, status: int, body: str
) -> None:
    head, got = await ask_logs(backend, target)
    assert (head.status, got.decode()) == (status, body)


async def test_a_missing_file_is_an_error_not_a_log(
    backend: CriBackend, runtime: ScriptedRuntime, log: Path
) -> None:
    remove(log)
    head, body = await ask_logs(backend, TARGET)
    assert (head.status, head.headers) == (400, ())
    assert body.decode().startswith(f'failed to try resolving symlinks in path "{log}"')


async def test_a_removed_container_is_an_error_not_a_log(
    backend: CriBackend, runtime: ScriptedRuntime, log: Path
) -> None:
    runtime.statuses.clear()
    head, body = await ask_logs(backend, TARGET)
    assert head.status == 400
    assert body == b"unable to retrieve container logs for containerd://c1"


async def follow(backend: CriBackend, target: str) -> tuple[MemoryExchange, asyncio.Task[None]]:
    exchange = MemoryExchange(RequestHead("GET", f"{target}?follow=true"))
    task = asyncio.create_task(answer(backend, exchange))
    assert await exchange.head() == ResponseHead(200)
    return exchange, task


async def test_following_ends_with_the_container(
    backend: CriBackend, runtime: ScriptedRuntime, log: Path
) -> None:
    async with asyncio.timeout(LIMIT):
        exchange, task = await follow(backend, TARGET)
        await exchange.receive_until(b"two\n")
        append(log, "three")
        assert await exchange.receive_until(b"three\n") == b"three\n"
        tell_status(runtime, "c1", cri_pb2.CONTAINER_EXITED, log)
        assert await exchange.receive_all() == b""
        await task


async def test_following_survives_a_restart_of_the_runtime(
    backend: CriBackend, runtime: ScriptedRuntime, log: Path
) -> None:
    async with asyncio.timeout(LIMIT):
        exchange, task = await follow(backend, TARGET)
        await exchange.receive_until(b"two\n")
        runtime.refusals["ContainerStatus"] = grpc.StatusCode.UNAVAILABLE, "restarting"
        runtime.called.clear()
        await runtime.called.wait()
        append(log, "three")
        assert await exchange.receive_until(b"three\n") == b"three\n"
        runtime.refusals.clear()
        tell_status(runtime, "c1", cri_pb2.CONTAINER_EXITED, log)
        assert await exchange.receive_all() == b""
        await task


async def test_the_head_of_a_silent_log_does_not_wait(
    backend: CriBackend, runtime: ScriptedRuntime, log: Path
) -> None:
    empty(log)
    async with asyncio.timeout(LIMIT):
        exchange, task = await follow(backend, TARGET)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert exchange.held == 0


async def test_a_dead_runtime_is_named(backend: CriBackend) -> None:
    head, body = await ask_logs(backend, TARGET)
    assert head.status == 500
    assert b"cri.sock" in body
