"""An edge behind a corporate proxy: CONNECT is the only way out, and some want credentials."""

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import edgestream.tunnel
from edgestream.tunnel import TunnelOptions, dial
from streamkit.errors import DialFailed, StreamError, UntrustedPeer
from streamkit.pki.contexts import tunnel_client_context
from streamkit.pki.issue import issue_all
from streamkit.service.logs import TRACE
from streamkit.session.v1_edge import V1EdgeSession
from tests.support.cloud import NODE, Cloud, running_cloud, tls_files
from tests.support.http_server import free_port
from tests.support.wait import until

HOST = "cloud.example"
"""A name that the proxy alone can resolve."""
SECRET = "pr0xy-s3cret"


@dataclass
class Proxy:
    """Passes CONNECTs on to one port, whatever they name; wants credentials if there are some."""

    target: int
    credentials: str = ""
    asked: list[str] = field(default_factory=list)
    port: int = 0
    tasks: set[asyncio.Task[None] | None] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        try:
            await self._pass_on(reader, writer)
        finally:
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split("\r\n", 1)[0])
        wanted = base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and f"Proxy-Authorization: Basic {wanted}\r\n" not in head:
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                b'Proxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
            )
            await writer.drain()
            return
        to_cloud, from_edge = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with contextlib.suppress(OSError):
                await asyncio.gather(pump(reader, from_edge), pump(to_cloud, writer))
        finally:
            from_edge.transport.abort()


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


@pytest.fixture(params=["picows", "websockets"], autouse=True)
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgestream.tunnel, "has_picows", lambda: request.param == "picows")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path) as running:
        yield running


@pytest.fixture
async def proxy(cloud: Cloud) -> AsyncIterator[Proxy]:
    found = Proxy(cloud.tunnel_port)
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0) as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found
        for task in found.tasks:
            assert task
            task.cancel()
        await asyncio.gather(*filter(None, found.tasks), return_exceptions=True)


@contextlib.asynccontextmanager
async def dialled(cloud: Cloud, server: str) -> AsyncIterator[None]:
    """A tunnel to that server, which the cloud knows."""
    options = TunnelOptions(server, "localhost", NODE, "10.2.4.15", 5, 5, 15, 5, 2, 1 << 20)
    context = tunnel_client_context(cloud.files(f"edge-{NODE}"))
    async with asyncio.timeout(10):
        tunnel = await dial(options, context, session_token="")
    session = V1EdgeSession(lambda channel: pytest.fail("no channel"), buffer_limit=1)
    task = asyncio.create_task(tunnel.run(session))
    try:
        await until(lambda: any(node.name == NODE for node in cloud.service.registry.nodes()))
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def refusal(cloud: Cloud, server: str) -> StreamError:
    with pytest.raises(StreamError) as raised:
        async with dialled(cloud, server):
            pass
    return raised.value


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_the_proxy_is_the_only_way_out(
    cloud: Cloud, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    async with dialled(cloud, f"{HOST}:10004"):
        assert proxy.asked == [f"CONNECT {HOST}:10004 HTTP/1.1"]


@pytest.mark.parametrize("exceptions", [HOST, ".example", "*"])
async def test_exceptions_are_dialled_directly(
    cloud: Cloud, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, exceptions: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert isinstance(await refusal(cloud, f"{HOST}:10004"), DialFailed)  # nobody resolves it
    monkeypatch.delenv("NO_PROXY")
    async with dialled(cloud, f"127.0.0.1:{cloud.tunnel_port}"):  # a proxy would lead elsewhere
        pass
    assert proxy.asked == []


async def test_a_proxy_that_wants_credentials_gets_them_and_no_log_does(
    cloud: Cloud,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(TRACE, logger="edgestream")
    proxy.credentials = f"edge:{SECRET}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    error = await refusal(cloud, f"{HOST}:10004")
    told = f"the proxy at 127.0.0.1:{proxy.port} wants credentials"
    assert told in str(error)
    monkeypatch.setenv("HTTPS_PROXY", f"http://edge:wrong-{SECRET}@127.0.0.1:{proxy.port}")
    error = await refusal(cloud, f"{HOST}:10004")
    assert told in str(error)
    assert SECRET not in str(error) + error.hint
    monkeypatch.setenv("HTTPS_PROXY", f"http://edge:{SECRET}@127.0.0.1:{proxy.port}")
    async with dialled(cloud, f"{HOST}:10004"):
        assert len(proxy.asked) == 3
    assert SECRET not in caplog.text


async def test_whoever_ends_tls_on_the_way_is_thought_of(cloud: Cloud, tmp_path: Path) -> None:
    issue_all(tmp_path / "interceptor")
    files = tls_files(tmp_path / "interceptor", "tunnel")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    seen: list[bytes] = []

    async def intercept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(intercept, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        error = await refusal(cloud, f"127.0.0.1:{port}")
    assert isinstance(error, UntrustedPeer)
    assert f"the certificate of the cloud at 127.0.0.1:{port} is not trusted" in str(error)
    assert "whatever ends TLS on the way (a balancer, a proxy) has to pass the port" in error.hint
    assert not any(seen)  # the node has said nothing to it


async def test_a_proxy_that_is_away_is_named_without_its_credentials(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://edge:{SECRET}@127.0.0.1:{port}")
    error = await refusal(cloud, f"{HOST}:10004")
    assert isinstance(error, DialFailed)
    assert f"can't be reached by the proxy at 127.0.0.1:{port}: Connection refused" in str(error)
    assert SECRET not in str(error) + error.hint
