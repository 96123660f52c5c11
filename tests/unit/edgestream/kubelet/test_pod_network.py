"""Connections into the networks of pods, which are network namespaces of a test's own."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.cri import cri_pb2
from edgestream.cri.client import CriClient
from edgestream.kubelet.pod_connection import ForwardingFailed, PodConnection
from edgestream.kubelet.pod_network import CannotEnter, PodNetworks
from tests.support import netns, tcp_server
from tests.support.runtime import ScriptedRuntime

LIMIT = 20.0
CLOSED = 'network namespace for sandbox "s1" is closed'


@pytest.fixture
def place() -> Iterator[netns.Namespace]:
    with netns.namespace() as found:
        yield found


@pytest.fixture
async def networks(tmp_path: Path, runtime: ScriptedRuntime) -> AsyncIterator[PodNetworks]:
    client = CriClient(str(tmp_path / "cri.sock"), call_deadline=LIMIT)
    found = PodNetworks(client)
    yield found
    found.close()
    found.close()
    await client.close()


def tell(runtime: ScriptedRuntime, path: Path) -> None:
    """Let the runtime tell where the sandbox's network is."""
    namespaces = [{"type": "pid"}, {"type": "network", "path": str(path)}]
    info = {"runtimeSpec": {"linux": {"namespaces": namespaces}}}
    runtime.sandbox_statuses["s1"].info["info"] = json.dumps(info)


@asynccontextmanager
async def serving(place: netns.Namespace, address: str) -> AsyncIterator[int]:
    """The port of a server there that sends back what comes."""
    module = tcp_server.__name__
    process = await place.start(sys.executable, "-m", module, "--address", address)
    assert process.stdout
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.communicate()


async def say(connection: PodConnection, data: bytes) -> bytes:
    """What comes back."""
    try:
        assert await connection.write(data)
        connection.write_eof()
        return await connection.read()
    finally:
        connection.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_server_in_the_pods_network(
    runtime: ScriptedRuntime, networks: PodNetworks, place: netns.Namespace, address: str
) -> None:
    tell(runtime, Path("/run/netns", place.name))
    own = os.readlink("/proc/thread-self/ns/net")
    async with asyncio.timeout(LIMIT), serving(place, address) as port:
        await networks.check("s1")
        files = len(os.listdir("/proc/self/fd"))
        made = [await networks.connect("s1", port) for _ in range(3)]
        assert [await say(each, b"hello") for each in made] == [b"hello"] * 3
        assert len(os.listdir("/proc/self/fd")) == files
    tasks = "/proc/self/task"
    assert {os.readlink(f"{tasks}/{each}/ns/net") for each in os.listdir(tasks)} == {own}


async def test_a_port_that_nobody_listens_on(
    runtime: ScriptedRuntime, networks: PodNetworks, place: netns.Namespace
) -> None:
    path = Path("/run/netns", place.name)
    tell(runtime, path)
    async with asyncio.timeout(LIMIT):
        with pytest.raises(ForwardingFailed) as failure:
            await networks.connect("s1", 9)
    assert str(failure.value) == (
        f'failed to execute portforward in network namespace "{path}":'
        ' failed to connect to localhost:9 inside namespace "s1",'
        " IPv4: dial tcp4 127.0.0.1:9: connect: connection refused"
        " IPv6 dial tcp6 [::1]:9: connect: connection refused "
    )
    ports = networks.ports_of("s1")
    told = ports.failure(9, failure.value)
    assert told == f"error forwarding port 9 to pod s1, uid : {failure.value}"


async def test_a_pod_on_the_hosts_network(runtime: ScriptedRuntime, networks: PodNetworks) -> None:
    runtime.sandbox_statuses["s1"].status.linux.namespaces.options.network = cri_pb2.NODE
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with asyncio.timeout(LIMIT), server:
        await networks.check("s1")
        port = server.sockets[0].getsockname()[1]
        connection = await networks.ports_of("s1").connect(port)
        assert await connection.read() == b""
        connection.close()
        with pytest.raises(ForwardingFailed, match='in network namespace "host": failed to'):
            await networks.connect("s1", 9)


async def test_a_sandbox_that_has_stopped(
    runtime: ScriptedRuntime, networks: PodNetworks, tmp_path: Path
) -> None:
    async with asyncio.timeout(LIMIT):
        tell(runtime, tmp_path / "removed")
        for call in (networks.check("s1"), networks.connect("s1", 80)):
            with pytest.raises(ForwardingFailed, match=CLOSED):
                await call
        runtime.sandbox_statuses["s1"].info["info"] = '{"netNamespaceClosed": true}'
        for call in (networks.check("s1"), networks.connect("s1", 80)):
            with pytest.raises(ForwardingFailed, match=CLOSED):
                await call
        with pytest.raises(KubeletAnswer):
            await networks.check("s2")
        with pytest.raises(ForwardingFailed, match="code = NotFound"):
            await networks.connect("s2", 80)


async def test_networks_out_of_reach(
    runtime: ScriptedRuntime, networks: PodNetworks, tmp_path: Path
) -> None:
    file = tmp_path / "no-namespace"
    file.touch()
    async with asyncio.timeout(LIMIT):
        for info in ("", "[]", "no JSON", "{}", '{"runtimeSpec": {"linux": {"namespaces": [1]}}}'):
            runtime.sandbox_statuses["s1"].info["info"] = info
            with pytest.raises(CannotEnter, match="does not tell where"):
                await networks.check("s1")
        tell(runtime, file)
        with pytest.raises(CannotEnter, match=f"entering {file} failed: invalid argument"):
            await networks.check("s1")
