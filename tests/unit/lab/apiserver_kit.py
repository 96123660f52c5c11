"""What the tests of the API-server stand-in share: keys, a scripted kubelet, a kubectl to run."""

import asyncio
import fcntl
import json
import os
import ssl
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import trustme
from yarl import URL

from lab.apiserver.config import Config
from lab.apiserver.server import ApiServer
from lab.apiserver.world import World

LIMIT = 30.0
"""Seconds for anything that a test waits for."""
NODE_IP = "10.99.0.1"
TOKEN = "metrics-server-token"


class Keys:
    """A CA, the API server's certificate, a user's and the one shown to kubelets, as files."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.directory = directory
        self.ca_file = directory / "ca.crt"
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.issue("apiserver", "127.0.0.1", "localhost")
        self.issue("kubelet", NODE_IP)
        self.issue("user", common_name="admin", organization="system:masters")
        self.issue("apiserver-client", common_name="kube-apiserver-kubelet-client")

    def issue(
        self, file_name: str, *names: str, common_name: str = "lab", organization: str = "lab"
    ) -> None:
        """Write ``NAME.crt`` and ``NAME.key``."""
        names = names or (f"{file_name}.lab",)
        leaf = self.ca.issue_cert(*names, common_name=common_name, organization_name=organization)
        self.cert(file_name).write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(self.key(file_name))

    def cert(self, file_name: str) -> Path:
        """The certificate's path."""
        return self.directory / f"{file_name}.crt"

    def key(self, file_name: str) -> Path:
        """The key's path."""
        return self.directory / f"{file_name}.key"

    def pair(self, file_name: str) -> dict[str, str]:
        """Both, as the configuration wants them."""
        return {"cert": str(self.cert(file_name)), "key": str(self.key(file_name))}

    def server_context(self) -> ssl.SSLContext:
        """The kubelet's side of TLS: asks for a client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert("kubelet"), self.key("kubelet"))
        context.load_verify_locations(self.ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context


@dataclass(slots=True)
class Exchange:
    """One request that the scripted kubelet got, and the streams to answer it."""

    connection: int
    first_line: str
    headers: list[tuple[str, str]]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def client_name(self) -> str:
        """The common name of the client certificate; empty without one."""
        subject = (self.writer.get_extra_info("peercert") or {}).get("subject", ())
        names = dict(pair for part in subject for pair in part)
        return str(names.get("commonName", ""))

    @property
    def target(self) -> str:
        """The request target."""
        return self.first_line.split(" ")[1]

    def values(self, name: str) -> list[str]:
        """All values of a header, by its exact spelling."""
        return [value for key, value in self.headers if key == name]

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(
        self, status: int, body: bytes = b"", *headers: tuple[str, str], reason: str = "Any"
    ) -> None:
        """Send a whole answer with a Content-Length."""
        lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)


Script = Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True)
class FakeKubelet:
    """A TLS server that records requests and answers each by ``script``."""

    script: Script
    port: int = 0
    seen: list[Exchange] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        self.connections += 1
        number = self.connections
        try:
            while exchange := await _read_request(number, reader, writer):
                self.seen.append(exchange)
                await self.script(exchange)
        except OSError:
            pass
        finally:
            writer.close()


async def _read_request(
    number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Exchange | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = [(line.partition(": ")[0], line.partition(": ")[2]) for line in lines]
    length = next((int(value) for name, value in headers if name == "Content-Length"), 0)
    return Exchange(number, first, headers, await reader.readexactly(length), reader, writer)


@asynccontextmanager
async def fake_kubelet(keys: Keys | None, script: Script) -> AsyncIterator[FakeKubelet]:
    """Run a scripted kubelet, over plain HTTP without keys; its connections end with it."""
    kubelet = FakeKubelet(script)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(kubelet.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    tls: dict[str, Any] = {}
    if keys:
        tls = {"ssl": keys.server_context(), "ssl_shutdown_timeout": 1}
    server = await asyncio.start_server(accept, "127.0.0.1", 0, **tls)
    kubelet.port = server.sockets[0].getsockname()[1]
    try:
        yield kubelet
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def make_config(keys: Keys, **fields: Any) -> Config:
    """A configuration with these keys and, unless told otherwise, no nodes."""
    given = {
        "listen": "127.0.0.1:0",
        "tls": keys.pair("apiserver"),
        "clientCA": str(keys.ca_file),
        "kubelet": keys.pair("apiserver-client"),
        "tokens": {TOKEN: {"user": "metrics", "allowed": ["nodes/metrics"]}},
        **fields,
    }
    return Config.model_validate_json(json.dumps(given))


def edge_config(keys: Keys, kubelet_port: int, **fields: Any) -> Config:
    """Node edge-1 behind a DNAT to the port, with pods ``single``, ``double`` and ``waiting``."""
    node = {"name": "edge-1", "address": NODE_IP, "port": 10351}
    node["dial"] = f"127.0.0.1:{kubelet_port}"
    pods = [
        make_pod("single", "app", node="edge-1"),
        make_pod("double", "app", "side", node="edge-1"),
        make_pod("waiting", "app"),
        make_pod("lost", "app", node="edge-9"),
    ]
    return make_config(keys, **{"nodes": [node], "pods": pods, **fields})


def make_pod(name: str, *containers: str, node: str = "", **metadata: Any) -> dict[str, Any]:
    """A static pod for the configuration."""
    spec: dict[str, Any] = {"containers": [{"name": each, "image": "none"} for each in containers]}
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, "labels": {"app": name}, **metadata}, "spec": spec}


@asynccontextmanager
async def api_server(config: Config, world: World | None = None) -> AsyncIterator[str]:
    """Run the stand-in; gives its URL."""
    server = ApiServer(config, world or World(config, []))
    try:
        yield await server.start()
    finally:
        async with asyncio.timeout(LIMIT):
            await server.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a kubectl command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Kubectl:
    """A kubectl that talks to one server as the user ``admin``."""

    binary: Path
    home: Path

    def connect(self, keys: Keys, url: str) -> None:
        """Write the kubeconfig."""
        user = {
            "client-certificate": str(keys.cert("user")),
            "client-key": str(keys.key("user")),
        }
        cluster = {"server": url, "certificate-authority": str(keys.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
            "current-context": "lab",
        }
        (self.home / "config").write_text(json.dumps(config))

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's but its PATH."""
        config = str(self.home / "config")
        return {"HOME": str(self.home), "KUBECONFIG": config, "PATH": os.environ["PATH"]}

    async def start(self, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> Any:
        """Start a command whose streams are pipes."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            self.binary, *arguments, stdin=stdin, stdout=pipe, stderr=pipe, env=self.environment
        )

    async def __call__(self, *arguments: str, data: bytes | None = None) -> Outcome:
        """Run a command to its end, with ``data`` as its standard input."""
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await self.start(*arguments, stdin=null if data is None else pipe)
        try:
            async with asyncio.timeout(LIMIT):
                out, err = await process.communicate(data)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        return Outcome(process.returncode, out.decode(), err.decode())


class RestClient:
    """Plain requests to the stand-in, as the user ``admin`` or as whoever ``headers`` say."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self.url = session, url

    async def raw(self, method: str, path: str, **more: Any) -> tuple[int, bytes, Any]:
        """Status, body and headers; the path goes out as it is."""
        target = URL(self.url + path, encoded=True)
        async with asyncio.timeout(LIMIT), self._session.request(method, target, **more) as got:
            return got.status, await got.read(), got.headers

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of an answer that goes on."""
        async with self._session.get(URL(self.url + path, encoded=True)) as answer:
            async for line in answer.content:
                yield line

    async def __call__(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Status and the JSON document."""
        status, body, _ = await self.raw(method, path, **more)
        return status, json.loads(body)


@asynccontextmanager
async def rest_client(
    keys: Keys, url: str, *, user: str | None = "user"
) -> AsyncIterator[RestClient]:
    """A client with a certificate, or without one."""
    connector = aiohttp.TCPConnector(ssl=client_context(keys, user=user))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield RestClient(session, url)


def client_context(keys: Keys, *, user: str | None = "user") -> ssl.SSLContext:
    """TLS as a client of the stand-in speaks it."""
    context = ssl.create_default_context(cafile=str(keys.ca_file))
    if user:
        context.load_cert_chain(keys.cert(user), keys.key(user))
    return context


@asynccontextmanager
async def raw_client(
    keys: Keys, url: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare TLS connection to the stand-in."""
    port = URL(url).port
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(keys), ssl_shutdown_timeout=1
        )
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


class Terminal:
    """A pseudo-terminal with a command in it, and what the command showed there so far."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self.process = process
        self.shown = b""

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, text.encode())

    async def wait_for(self, text: str) -> None:
        """Wait until the text is shown; fails if it is not shown in time."""
        async with asyncio.timeout(LIMIT):
            while text.encode() not in self.shown:
                self.shown += await asyncio.to_thread(os.read, self._master, 65536)


@asynccontextmanager
async def terminal(kubectl: Kubectl, *arguments: str) -> AsyncIterator[Terminal]:
    """Run a command in a terminal of 30 rows and 100 columns; it is killed in the end."""
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        process = await asyncio.create_subprocess_exec(
            kubectl.binary,
            *arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kubectl.environment,
        )
    finally:
        os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(master)
