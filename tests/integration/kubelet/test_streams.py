"""Exec, attach and port-forward with a real containerd at the other end of the relay."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from unittest import mock
from urllib.parse import urlencode

import pytest

from edgestream.kubelet.cri_backend import CriBackend
from edgestream.kubelet.pod_network import CannotEnter, PodNetworks
from edgestream.kubelet.serve import answer
from lab.containerd import Lab
from streamkit.wire.exchange import RequestHead
from tests.integration.kubelet.conftest import WebPod
from tests.support.channels import (
    STATUS,
    STDERR,
    STDIN,
    STDOUT,
    ChannelClient,
    exit_code,
)
from tests.support.exchange import MemoryExchange, ask
from tests.support.http_server import free_port
from tests.support.spdy_client import receiving

pytestmark = pytest.mark.lab

LIMIT = 30.0
SPDY = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))


@asynccontextmanager
async def connected(
    backend: CriBackend, target: str, *, room: int = 1 << 16
) -> AsyncIterator[ChannelClient]:
    """A client of that target; when the context ends, the caller is gone."""
    client = ChannelClient(target, room=room)
    async with asyncio.timeout(LIMIT):
        serving = asyncio.create_task(answer(backend, client.exchange))
        try:
            yield await client.connect()
        finally:
            serving.cancel()
            await asyncio.wait([serving])


def exec_target(*command: str, container: str = "app", **streams: int) -> str:
    query = [*(("command", word) for word in command), *streams.items()]
    return f"/exec/default/web/{container}?{urlencode(query)}"


async def run(backend: CriBackend, *command: str) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of a command."""
    async with connected(backend, exec_target(*command, output=1, error=1)) as client:
        received = await client.receive_all()
    return exit_code(received[STATUS]), received.get(STDOUT, b""), received.get(STDERR, b"")


async def test_output_and_exit_codes(backend: CriBackend, web: WebPod) -> None:
    script = "echo to stdout; echo to stderr >&2; exit $1"
    for code in (0, 7, 137):
        ended = await run(backend, "sh", "-c", script, "sh", str(code))
        assert ended == (code, b"to stdout\n", b"to stderr\n")


async def test_arguments_arrive_as_they_are(backend: CriBackend, web: WebPod) -> None:
    words = ["a b", "", "é&=+;%", "new\nline", "'\"$HOME"]
    code, stdout, _ = await run(backend, "printf", "[%s]", *words)
    assert code == 0
    assert stdout.decode() == "".join(f"[{word}]" for word in words)


async def test_much_output_comes_whole_at_the_pace_of_its_reader(
    backend: CriBackend, web: WebPod
) -> None:
    code, stdout, _ = await run(backend, "seq", "1", "300000")
    assert code == 0
    assert stdout == "".join(f"{n}\n" for n in range(1, 300001)).encode()


async def test_stdin_reaches_the_process(backend: CriBackend, web: WebPod) -> None:
    script = "read one; echo got $one; read two; echo got $two"
    target = exec_target("sh", "-c", script, input=1, output=1)
    async with connected(backend, target) as client:
        await client.send(STDIN, b"one\n")
        await client.receive_until(STDOUT, b"got one\n")
        await client.send(STDIN, b"two\n")
        received = await client.receive_all()
    assert received[STDOUT] == b"got one\ngot two\n"
    assert exit_code(received[STATUS]) == 0


@pytest.mark.parametrize(
    ("container", "echoed"), [("cat", b"hello\n"), ("tty", b"hello\r\nhello\r\n")]
)
async def test_attach(backend: CriBackend, web: WebPod, container: str, echoed: bytes) -> None:
    target = f"/attach/default/web/{container}?input=1&output=1"
    async with connected(backend, target) as client:
        await client.send(STDIN, b"hello\n")
        assert await client.receive_until(STDOUT, echoed) == echoed


@contextmanager
def served_by(who: str) -> Iterator[None]:
    """Let port-forward be answered by the ``agent`` itself, or left to the ``runtime``."""
    with ExitStack() as stack:
        if who == "runtime":
            refusal = mock.AsyncMock(side_effect=CannotEnter("so says the test"))
            stack.enter_context(mock.patch.object(PodNetworks, "check", refusal))
        yield


@pytest.mark.parametrize("who", ["agent", "runtime"])
async def test_port_forward(backend: CriBackend, lab: Lab, web: WebPod, who: str) -> None:
    if not lab.has_network:
        pytest.skip("pods can't have a network of their own here")
    with served_by(who):
        async with connected(backend, "/portForward/default/web?port=8080") as client:
            await client.send(0, b"GET / HTTP/1.0\r\n\r\n")
            page = await client.receive_until(0, b"hello from the lab\n")
    assert page.startswith(struct.pack("<H", 8080) + b"HTTP/1.")


async def told_by(who: str, backend: CriBackend, name: str, port: int) -> str:
    """What a client of SPDY is told of that pod's port, to which nobody listens."""
    headers = (*SPDY, ("X-Stream-Protocol-Version", "portforward.k8s.io"))
    exchange = MemoryExchange(RequestHead("POST", f"/portForward/default/{name}", headers))
    with served_by(who):
        async with asyncio.timeout(LIMIT), receiving(exchange) as client:
            serving = asyncio.create_task(answer(backend, exchange))
            assert (await exchange.head()).headers == headers
            errors, data = await client.connect(port)
            await client.until(lambda: {errors, data} <= set(client.ended))
            serving.cancel()
            await asyncio.wait([serving])
    return client.data[errors].decode()


@pytest.mark.parametrize("host_network", [False, True])
async def test_a_refused_port_is_told_as_the_runtime_tells_it(
    backend: CriBackend, lab: Lab, host_network: bool
) -> None:
    if not (host_network or lab.has_network):
        pytest.skip("pods can't have a network of their own here")
    name, port = f"refuser-{host_network}".lower(), free_port()
    lab.run_pod(name, host_network=host_network)
    own, runtimes = [
        (await told_by(who, backend, name, port)).partition(" IPv6 ")
        for who in ("agent", "runtime")
    ]
    assert own[0] == runtimes[0]
    assert own[0].endswith(f"IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused")
    # The runtime looks "localhost" up on its host, where it need not have an IPv6 address.
    assert own[2] == f"dial tcp6 [::1]:{port}: connect: connection refused "


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/exec/default/nope/app?output=1", 404, "pod does not exist"),
        ("/exec/default/web/nope?output=1", 500, 'container not found ("nope")'),
        ("/exec/default/web/done?output=1", 500, 'container not found ("done")'),
        ("/attach/default/web/done?output=1", 500, "container done not found in pod web_default"),
        (
            "/attach/default/web/tty?output=1&error=1",
            500,
            "rpc error: code = InvalidArgument desc = tty and stderr cannot both be true",
        ),
        ("/portForward/default/web/other-uid", 404, "pod not found"),
        (
            "/exec/default/web/app?output=1&command=id",
            400,
            "unable to upgrade: X-Stream-Protocol-Version is required",
        ),
    ],
)
async def test_refusals(
    backend: CriBackend, web: WebPod, target: str, status: int, body: str
) -> None:
    async with asyncio.timeout(LIMIT):
        head, text = await ask(backend, RequestHead("POST", target, SPDY))
    assert (head.status, text.decode().rstrip("\n")) == (status, body)


def count_processes(lab: Lab, web: WebPod, name: str) -> int:
    """How many processes of that name the container ``app`` has."""
    command = ["sh", "-c", f"ps -o comm | grep -cx {name}"]
    counted = lab.cri("ExecSync", container_id=web.app_id, cmd=command, timeout=10)
    return int(counted.stdout)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_nothing_is_left_of_callers_who_left(
    backend: CriBackend, lab: Lab, web: WebPod
) -> None:
    async def come_and_go() -> None:
        target = exec_target("tee", input=1, output=1)
        async with connected(backend, target) as client:
            await client.send(STDIN, b"x\n")
            await client.receive_until(STDOUT, b"x\n")

    await come_and_go()
    files, tasks = open_files(), len(asyncio.all_tasks())
    for _ in range(5):
        await come_and_go()
    await asyncio.gather(*(come_and_go() for _ in range(5)))
    assert open_files() == files
    assert len(asyncio.all_tasks()) == tasks
    async with asyncio.timeout(LIMIT):  # containerd ends the processes when it notices
        while await asyncio.to_thread(count_processes, lab, web, "tee"):
            pass


async def test_a_process_that_never_reads_blocks_its_own_stream_only(
    backend: CriBackend, web: WebPod
) -> None:
    async def type_on(client: ChannelClient) -> None:
        while True:
            await client.send(STDIN, b"y" * 30000)

    target = exec_target("sh", "-c", "echo ready; sleep 1000", input=1, output=1)
    async with connected(backend, target) as stuck:
        await stuck.receive_until(STDOUT, b"ready\n")
        typing = asyncio.create_task(type_on(stuck))
        for _ in range(3):
            assert (await run(backend, "echo", "fine"))[:2] == (0, b"fine\n")
        assert not typing.done()
        typing.cancel()
        await asyncio.wait([typing])
