"""A cloud service and edge nodes as processes, at an API server that a test may make fail."""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from aiohttp import ClientError

from streamkit.pki.issue import issue_all
from tests.support.admin import Admin
from tests.support.api_client import ApiClient
from tests.support.cloud import tls_files
from tests.support.cloudcore import tls_keys
from tests.support.http_server import free_port

NODES = ("edge-1", "edge-2")
DEADLINE = 30.0
PROJECT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class CloudProcess:
    """``cloudstream serve``, started once; it is never started again."""

    directory: Path
    process: asyncio.subprocess.Process
    stream_port: int
    tunnel_port: int
    admin: Admin

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[ApiClient]:
        """An API server's connection, for the length of the block."""
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        stem = self.pki / "apiserver-client"
        context.load_cert_chain(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        async with asyncio.timeout(DEADLINE):
            streams = await asyncio.open_connection("127.0.0.1", self.stream_port, ssl=context)
        client = ApiClient(*streams)
        try:
            yield client
        finally:
            client.abort()

    @contextlib.asynccontextmanager
    async def edge(self, node: str) -> AsyncIterator[None]:
        """An edge node whose kubelet answers with its name; connected when the block begins."""
        before = await self._tunnels()
        arguments = (f"127.0.0.1:{self.tunnel_port}", node, "127.0.0.1", str(self.pki))
        command = (sys.executable, "-m", "tests.support.scripted_edge", *arguments)
        async with running(*command, log=self.directory / f"{node}.log"):
            async with asyncio.timeout(DEADLINE):
                while await self._tunnels() <= before:
                    await asyncio.sleep(0.02)
            yield

    async def _tunnels(self) -> float:
        metrics = await self.admin.metrics()
        return sum(metrics[f'cloudstream_tunnels{{wire="{wire}"}}'] for wire in ("v1", "v2"))


@contextlib.asynccontextmanager
async def cloud_process(directory: Path, kube_config: str) -> AsyncIterator[CloudProcess]:
    """The service for the length of the block, in which it must not end nor log a fault."""
    issue_all(directory / "pki", nodes=NODES)
    ports = [free_port() for _ in range(3)]
    config = directory / "cloudcore.yaml"
    config.write_text(yaml.safe_dump(_configuration(directory / "pki", kube_config, ports)))
    log = directory / "cloudstream.log"
    program = str(Path(sys.executable).with_name("cloudstream"))
    async with running(program, "serve", "--config", str(config), log=log) as process:
        admin = Admin(ports[2])
        async with asyncio.timeout(DEADLINE):
            while not await _answers(admin):
                await asyncio.sleep(0.02)
        yield CloudProcess(directory, process, ports[0], ports[1], admin)
        assert process.returncode is None
    text = log.read_text()
    assert "Traceback" not in text
    assert " ERROR " not in text


@contextlib.asynccontextmanager
async def running(*command: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process for the length of the block; what it writes goes to a file."""
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, cwd=PROJECT
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _answers(admin: Admin) -> bool:
    try:
        await admin.get("/livez")
    except ClientError:
        return False
    return True


def _configuration(pki: Path, kube_config: str, ports: list[int]) -> dict[str, object]:
    tls = tls_keys(tls_files(pki, "stream"), tls_files(pki, "tunnel"))
    return {
        "kubeAPIConfig": {"kubeConfig": kube_config},
        "modules": {"cloudStream": {"streamPort": ports[0], "tunnelPort": ports[1], **tls}},
        "cloudstream": {
            "bindAddress": "127.0.0.1",
            "adminAddress": f"127.0.0.1:{ports[2]}",
            "kubernetes": {"advertiseAddress": "10.2.0.12"},
        },
    }
