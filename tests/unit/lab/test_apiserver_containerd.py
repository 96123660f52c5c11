"""Real kubectl, the stand-in and real pods, with a bare relay in place of the services."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import md5
from pathlib import Path
from uuid import uuid4

import pytest

from lab.apiserver.cripods import CriPods
from lab.apiserver.world import World
from lab.containerd import Lab, missing
from tests.unit.lab.apiserver_kit import (
    LIMIT,
    Keys,
    Kubectl,
    api_server,
    edge_config,
    fake_kubelet,
    terminal,
)
from tests.unit.lab.cri_relay import cri_script
from tests.unit.lab.test_apiserver_kubectl import find

EXITED = 2

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {', '.join(missing())}"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Pod ``web`` with a server and a terminal's shell, pod ``one`` with an echo and a corpse."""
    with Lab(tmp_path_factory.mktemp("as")) as running:
        web = running.run_pod("web")
        running.run_container(web, "web", ["httpd", "-f", "-p", "8080", "-h", "/www"])
        running.run_container(web, "shell", ["sh"], tty=True, stdin=True)
        one = running.run_pod("one", namespace="other")
        echo = "while read line; do echo got $line; done"
        running.run_container(one, "echo", ["sh", "-c", echo], stdin=True)
        corpse = running.run_container(one, "corpse", ["sh", "-c", "exit 3"])
        deadline = time.monotonic() + LIMIT
        while running.cri("ContainerStatus", container_id=corpse).status.state != EXITED:
            assert time.monotonic() < deadline, "the container did not end"
            time.sleep(0.02)
        yield running


@pytest.fixture(
    params=[None, *(pytest.param(each, marks=pytest.mark.slow) for each in ("1.20", "1.37"))]
)
async def kubectl(
    request: pytest.FixtureRequest, keys: Keys, tmp_path: Path, lab: Lab
) -> AsyncIterator[Kubectl]:
    program = Kubectl(find(request.param), tmp_path)
    async with fake_kubelet(keys, cri_script(lab.cri)) as kubelet:
        config = edge_config(keys, kubelet.port, pods=[])
        world = World(config, [CriPods(lab.cri, config.nodes[0])])
        async with api_server(config, world) as url:
            program.connect(keys, url)
            yield program


async def test_pods_are_shown(kubectl: Kubectl) -> None:
    got = await kubectl("get", "pods", "-A", "-o", "wide")
    rows = [line.split() for line in got.out.splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        ["default", "web", "2/2", "Running"],
        ["other", "one", "1/2", "Error"],
    ]
    got = await kubectl("get", "namespaces", "-o", "name")
    assert "namespace/other\n" in got.out


async def test_exec_carries_output_and_exit_codes_and_says_nothing_else(kubectl: Kubectl) -> None:
    got = await kubectl("exec", "web", "-c", "web", "--", "hostname")
    assert (got.code, got.out, got.err) == (0, "web\n", "")
    script = "echo out; echo err >&2; exit 7"
    got = await kubectl("exec", "web", "-c", "web", "--", "sh", "-c", script)
    assert (got.code, got.out) == (7, "out\n")
    assert got.err == "err\ncommand terminated with exit code 7\n"


async def test_exec_carries_input(kubectl: Kubectl) -> None:
    data = b"0123456789abcde\n" * 65536
    got = await kubectl("exec", "-i", "web", "-c", "web", "--", "md5sum", data=data)
    assert (got.code, got.out, got.err) == (0, f"{md5(data).hexdigest()}  -\n", "")


async def test_exec_on_a_terminal(kubectl: Kubectl) -> None:
    async with terminal(kubectl, "exec", "-it", "web", "-c", "web", "--", "sh") as screen:
        await screen.wait_for("# ")
        screen.type("stty size; echo typed-$((40 + 2))\n")
        await screen.wait_for("30 100")
        await screen.wait_for("typed-42")
        screen.type("exit 3\n")
        await screen.wait_for("command terminated with exit code 3")
        assert await asyncio.wait_for(screen.process.wait(), LIMIT) == 3


async def test_attach_to_a_container_with_a_terminal(kubectl: Kubectl) -> None:
    async with terminal(kubectl, "attach", "-it", "web", "-c", "shell") as screen:
        await screen.wait_for("try pressing enter")
        screen.type("\necho typed-$((40 + 2))\n")
        await screen.wait_for("typed-42")


async def test_attach_to_a_container_without_one(kubectl: Kubectl) -> None:
    pipe = asyncio.subprocess.PIPE
    arguments = ("attach", "-n", "other", "-i", "one", "-c", "echo")
    process = await kubectl.start(*arguments, stdin=pipe)
    process.stdin.write(b"hello\n")
    async with asyncio.timeout(LIMIT):
        assert await process.stdout.readline() == b"got hello\n"
    process.kill()
    await process.communicate()


async def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(5_000_000))
    got = await kubectl("cp", str(there), "web:/tmp/file", "-c", "web")
    assert (got.code, got.err) == (0, "")
    got = await kubectl("cp", "web:/tmp/file", str(back), "-c", "web")
    assert got.code == 0
    assert back.read_bytes() == there.read_bytes()


async def test_a_port_is_forwarded(kubectl: Kubectl) -> None:
    process = await kubectl.start("port-forward", "web", ":8080")
    try:
        async with asyncio.timeout(LIMIT):
            line = (await process.stdout.readline()).decode()
            port = line.partition(" -> ")[0].rpartition(":")[2]
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                assert (await reader.read()).endswith(b"hello from the lab\n")
                writer.close()
    finally:
        process.kill()
        await process.communicate()


async def test_a_debug_container_sees_its_target(kubectl: Kubectl) -> None:
    if "1.20" in str(kubectl.binary):
        pytest.skip("kubectl 1.20 debugs with an alpha API that is gone")
    arguments = ("debug", "-it", "web", "--image=any", "--target=web", "-c")
    name = f"debugger-{uuid4().hex}"
    async with terminal(kubectl, *arguments, name, "--", "sh") as screen:
        await screen.wait_for("# ")
        screen.type("ps\n")
        await screen.wait_for("httpd -f")
        screen.type("exit\n")
        await asyncio.wait_for(screen.process.wait(), LIMIT)
    got = await kubectl("logs", "web", "-c", "none")
    assert "container none is not valid" in got.err
    got = await kubectl("get", "pod", "web", "-o", "jsonpath={.spec.ephemeralContainers[*].name}")
    assert name in got.out.split()


async def test_a_runtime_that_is_gone_leaves_its_pods_in_sight(keys: Keys, lab: Lab) -> None:
    """As the pods of a node stay in sight when the node is gone."""
    config = edge_config(keys, 1, pods=[])
    source = CriPods(lab.cri, config.nodes[0])
    world = World(config, [source])
    await world.refresh_pods()
    before = list(world.pods)
    assert [pod["metadata"]["name"] for pod in before] == ["web", "one"]
    nowhere = Lab(lab.base / "nowhere")
    source.call = nowhere.cri
    await world.refresh_pods()
    nowhere.cri.channel.close()
    assert list(world.pods) == before
