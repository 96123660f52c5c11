"""Logs of real containers, through the runtime's own answers and files."""

import asyncio

import pytest

from edgestream.kubelet.cri_backend import CriBackend
from edgestream.kubelet.serve import answer
from lab.containerd import Lab
from streamkit.wire.exchange import RequestHead, ResponseHead
from tests.integration.kubelet.conftest import WebPod
from tests.support.exchange import MemoryExchange, ask

pytestmark = pytest.mark.lab

LIMIT = 30.0
APP = "/containerLogs/default/web/app"


async def ask_logs(backend: CriBackend, target: str) -> tuple[ResponseHead, bytes]:
    async with asyncio.timeout(LIMIT):
        return await ask(backend, RequestHead("GET", target))


async def follow_lines(backend: CriBackend, target: str, count: int) -> set[bytes]:
    """The first lines of a log, as soon as there are so many."""
    async with asyncio.timeout(LIMIT):
        exchange = MemoryExchange(RequestHead("GET", f"{target}?follow=true"))
        task = asyncio.create_task(answer(backend, exchange))
        text = b""
        while text.count(b"\n") < count:
            text += await exchange.receive()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    return set(text.splitlines())


async def test_options(backend: CriBackend, web: WebPod) -> None:
    lines = {f"{stream} {n}".encode() for stream in ("out", "err") for n in (1, 2, 3)}
    assert await follow_lines(backend, APP, len(lines)) == lines
    head, text = await ask_logs(backend, APP)
    assert head == ResponseHead(200)
    assert set(text.splitlines()) == lines
    _, text = await ask_logs(backend, f"{APP}?limitBytes=5")
    assert len(text) == 5
    _, text = await ask_logs(backend, f"{APP}?tailLines=2&timestamps=true")
    assert len(text.splitlines()) == 2
    assert text.startswith(b"20")
    _, text = await ask_logs(backend, f"{APP}?sinceTime=2999-01-01T00:00:00Z")
    assert text == b""


async def test_a_follower_ends_with_its_container(
    backend: CriBackend, lab: Lab, web: WebPod
) -> None:
    script = "echo first; read line; echo last $line"
    container = lab.run_container(web.pod, "ending", ["sh", "-c", script], stdin=True)
    async with asyncio.timeout(LIMIT):
        exchange = MemoryExchange(
            RequestHead("GET", "/containerLogs/default/web/ending?follow=true")
        )
        task = asyncio.create_task(answer(backend, exchange))
        assert await exchange.receive_until(b"first\n") == b"first\n"
        await asyncio.to_thread(lab.cri, "StopContainer", container_id=container, timeout=0)
        assert await exchange.receive_all() == b""
        await task
    await asyncio.to_thread(lab.remove_container, container)


async def test_a_container_that_ended(backend: CriBackend, web: WebPod) -> None:
    target = "/containerLogs/default/web/done?follow=true"
    assert await ask_logs(backend, target) == (ResponseHead(200), b"last words\n")


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("default/nope/app", 404, 'pod "nope" does not exist'),
        ("default/web/nope", 400, 'container "nope" in pod "web" is waiting to start: ContainerC'),
        ("default/web/new", 400, 'container "new" in pod "web" is waiting to start: '),
        (
            "default/web/app?previous=true",
            400,
            'previous terminated container "app" in pod "web" not found',
        ),
    ],
)
async def test_logs_that_are_not_there(
    backend: CriBackend, web: WebPod, path: str, status: int, body: str
) -> None:
    head, text = await ask_logs(backend, f"/containerLogs/{path}")
    assert head.status == status
    assert text.decode().startswith(body)


async def test_the_previous_attempt(backend: CriBackend, lab: Lab, web: WebPod) -> None:
    for attempt, command in enumerate((["echo", "first"], ["sleep", "1000"])):
        await asyncio.to_thread(
            lab.run_container,
            web.pod,
            "again",
            command,
            metadata={"name": "again", "attempt": attempt},
            log_path=f"again/{attempt}.log",
        )
        if attempt == 0:
            target = "/containerLogs/default/web/again?follow=true"
            assert await ask_logs(backend, target) == (ResponseHead(200), b"first\n")
    head, text = await ask_logs(backend, "/containerLogs/default/web/again?previous=true")
    assert (head.status, text) == (200, b"first\n")
