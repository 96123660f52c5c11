"""Which edges are let in, and what the others are told."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from cloudstream.config import CloudConfig, CloudSettings
from cloudstream.service import CloudService
from edgestream.tunnel import TunnelOptions, dial
from streamkit.errors import DialFailed, HandshakeRejected, PortInUse, StreamError, UntrustedPeer
from streamkit.pki.contexts import tunnel_client_context
from streamkit.pki.issue import issue_all
from streamkit.wire.v2_message import SESSION_HEADER, SUBPROTOCOL
from tests.integration.tunnel.life import (
    PORTS,
    echo,
    proxied,
    works,
)
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud, tls_files
from tests.support.edge import connected_edge
from tests.support.wait import until


async def asked(
    cloud: Cloud,
    *lines: str,
    path: str = "/v1/kubeedge/connect",
    stem: str = "edge-edge-1",
    is_upgrade: bool = True,
) -> tuple[int, str]:
    """Status and body of the answer to a tunnel's handshake."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", cloud.tunnel_port, ssl=cloud.client_context(stem)
    )
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: 2PUmCzwkPoGK91r5pzKaqw==",
    )
    head = (f"GET {path} HTTP/1.1", "Host: cloud:10004", *(upgrade if is_upgrade else ()), *lines)
    writer.write("\r\n".join((*head, "", "")).encode())
    try:
        async with asyncio.timeout(10):
            head_bytes = await reader.readuntil(b"\r\n\r\n")
            status = int(head_bytes.split()[1])
            return status, "" if status == 101 else (await reader.read()).decode()
    finally:
        writer.transport.abort()


ME = "sessionhostnameoverride: edge-1"


@pytest.mark.parametrize(
    ("lines", "stem", "status", "sentence"),
    [
        (
            ("SessionHostNameOverride: edge-2",),
            "edge-edge-1",
            403,
            'the edge calls itself "edge-2" with the certificate of node "edge-1"',
        ),
        ((), "edge-edge-1", 400, "the edge sent no SessionHostNameOverride header"),
        (
            (ME,),
            "apiserver-client",
            403,
            'the certificate of "kube-apiserver-kubelet-client" is no edge node\'s: its common',
        ),
        ((ME, "Origin: https://evil.example"), "edge-edge-1", 403, "websocket: request origin"),
    ],
    ids=["other name", "no name", "no node", "foreign origin"],
)
async def test_who_is_not_let_in_is_told_why_and_so_is_the_log(
    cloud: Cloud,
    caplog: pytest.LogCaptureFixture,
    lines: tuple[str, ...],
    stem: str,
    status: int,
    sentence: str,
) -> None:
    got, body = await asked(cloud, *lines, stem=stem)
    assert got == status
    assert body.startswith(sentence)
    assert len(cloud.service.registry) == 0
    refusals = [record.getMessage() for record in caplog.records if "refused" in record.msg]
    assert len(refusals) == 1
    assert sentence in refusals[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/kubeedge/connect", 101),
        ("/v1/kubeedge/connect/", 101),
        ("/v1/kubeedge/connect?x=1", 101),
        ("/v1/kubeedge/connected", 404),
        ("/", 404),
        ("/v1/kubeedge", 404),
        ("//v1/kubeedge/connect", 404),
    ],
)
async def test_there_is_one_path(cloud: Cloud, path: str, status: int) -> None:
    got, body = await asked(cloud, ME, path=path)
    assert got == status
    assert body in ("", "404 page not found\n")


async def test_an_equal_origin_and_offers_of_others_are_fine(cloud: Cloud) -> None:
    offers = ("Origin: https://cloud:10004", "Sec-WebSocket-Protocol: chat", "X: \u00e9")
    assert await asked(cloud, ME, *offers, "Sec-WebSocket-Extensions: permessage-deflate") == (
        101,
        "",
    )


async def test_what_is_no_websocket_handshake_is_a_bad_request(cloud: Cloud) -> None:
    status, body = await asked(cloud, ME, is_upgrade=False)
    assert status == 400
    assert body
    assert len(cloud.service.registry) == 0


async def test_a_token_of_another_session_begins_a_new_one(cloud: Cloud) -> None:
    async with connected_edge(cloud, echo):
        node = cloud.service.registry.by_name(NODE)
        for token in ("guess", "", "\u00e9"):
            offer = (f"Sec-WebSocket-Protocol: {SUBPROTOCOL}", f"{SESSION_HEADER}: {token}")
            assert (await asked(cloud, ME, *offer))[0] == 101
            assert cloud.service.registry.find(NODE) is not node


@pytest.mark.parametrize("shown", ["nothing", "stranger"])
async def test_a_certificate_of_the_ca_is_required(
    cloud: Cloud, tmp_path: Path, caplog: pytest.LogCaptureFixture, shown: str
) -> None:
    issue_all(tmp_path / "elsewhere", nodes=(NODE,))
    context = cloud.client_context(None)
    if shown == "stranger":
        files = tls_files(tmp_path / "elsewhere", f"edge-{NODE}")
        context.load_cert_chain(files.cert, files.key)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await read_something("127.0.0.1", cloud.tunnel_port, context)
    await until(lambda: "tunnel port: refused" in caplog.text)
    (line,) = [record.getMessage() for record in caplog.records if "refused" in record.msg]
    expected = {
        "nothing": "it showed no client certificate",
        "stranger": "its client certificate is not from the configured CA",
    }
    assert line.endswith(expected[shown])
    async with connected_edge(cloud, echo):
        assert len(cloud.service.registry) == 1


async def read_something(host: str, port: int, context: ssl.SSLContext) -> None:
    """A client that asks. Raises what the connection ends with."""
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        async with asyncio.timeout(10):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            if not await reader.read():
                raise ConnectionResetError
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("port", ["stream", "tunnel"])
async def test_plain_http_on_a_tls_port_costs_one_line(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, port: str
) -> None:
    number = cloud.stream_port if port == "stream" else cloud.tunnel_port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.close()
    await until(lambda: f"{port} port: refused" in caplog.text)
    (line,) = [record.getMessage() for record in caplog.records if "refused" in record.msg]
    assert line.endswith("it spoke plain HTTP on a TLS port")
    async with connected_edge(cloud, echo), api_client(cloud) as client:
        assert (await client.upgrade(PORTS)).status == 101
        await works(client)


@pytest.mark.parametrize("taken", ["stream", "tunnel"])
async def test_a_port_in_use_is_named(cloud: Cloud, taken: str) -> None:
    ports = {"stream": cloud.stream_port, "tunnel": cloud.tunnel_port}
    config = CloudConfig(
        stream_port=ports["stream"] if taken == "stream" else 0,
        tunnel_port=ports["tunnel"] if taken == "tunnel" else 0,
        stream_tls=cloud.files("stream"),
        tunnel_tls=cloud.files("tunnel"),
        kubelet_port=10350,
        kube_master="",
        kube_config="",
        settings=CloudSettings(bind_address="127.0.0.1"),
    )
    with pytest.raises(PortInUse, match=f"the {taken} port can't listen on 127.0.0.1, port "):
        CloudService(config)
    async with api_client(cloud) as client:
        assert (await client.get("/pods", proxied("edge-2"))).status == 503


# -- what an edge is told --------------------------------------------------------------------------


async def dialled(
    server: str,
    context: ssl.SSLContext,
    *,
    name: str = "",
    node: str = NODE,
    handshake: float = 10,
) -> StreamError:
    """The error that an edge gets when it dials."""
    options = TunnelOptions(
        server=server,
        server_name=name,
        node_name=node,
        node_ip="10.0.0.1",
        handshake=handshake,
        heartbeat=5,
        silence=15,
        write=15,
        close=1,
        max_message=2 << 20,
    )
    with pytest.raises(StreamError) as raised:
        async with asyncio.timeout(20):
            await dial(options, context, session_token="")
    return raised.value


@pytest.mark.usefixtures("library")
async def test_an_edge_is_told_why_it_was_refused(cloud: Cloud, tmp_path: Path) -> None:
    server = f"127.0.0.1:{cloud.tunnel_port}"
    own = tunnel_client_context(cloud.files(f"edge-{NODE}"))
    error = await dialled(server, own, node="edge-2")
    assert type(error) is HandshakeRejected
    assert str(error) == (
        f'the cloud at {server} refused this node: 403 the edge calls itself "edge-2" with the'
        ' certificate of node "edge-1"'
    )
    error = await dialled(server, own, name="cloud.example")
    assert type(error) is UntrustedPeer
    assert "is not trusted" in str(error)
    issue_all(tmp_path / "elsewhere", nodes=(NODE,))
    stranger = tls_files(tmp_path / "elsewhere", f"edge-{NODE}")
    error = await dialled(server, tunnel_client_context(stranger))
    assert type(error) is UntrustedPeer
    assert "self-signed certificate in certificate chain" in str(error)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("shown", ["nothing", "stranger"])
async def test_an_edge_whose_certificate_is_refused_is_pointed_at_it(
    cloud: Cloud, tmp_path: Path, shown: str
) -> None:
    server = f"127.0.0.1:{cloud.tunnel_port}"
    context = cloud.client_context(None)
    if shown == "stranger":
        issue_all(tmp_path / "elsewhere", nodes=(NODE,))
        files = tls_files(tmp_path / "elsewhere", f"edge-{NODE}")
        context.load_cert_chain(files.cert, files.key)
    error = await dialled(server, context)
    assert type(error) is DialFailed
    assert str(error) == (
        f"the cloud at {server} closed the connection without an answer: maybe it does not accept"
        " this node's certificate, its log says why"
    )


@pytest.mark.usefixtures("library")
async def test_an_edge_is_told_what_the_network_did(cloud: Cloud) -> None:
    context = tunnel_client_context(cloud.files(f"edge-{NODE}"))

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def speaks_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    for serve, kind, words in (
        (closes, DialFailed, "can't be reached"),
        (speaks_http, UntrustedPeer, "the TLS handshake with the cloud at .* failed"),
        (is_silent, DialFailed, "did not answer in time"),
    ):
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            handshake = 0.2 if serve is is_silent else 10
            error = await dialled(f"127.0.0.1:{port}", context, handshake=handshake)
        assert type(error) is kind
        with pytest.raises(kind, match=words):
            raise error
    error = await dialled(f"127.0.0.1:{port}", context)
    assert type(error) is DialFailed
    assert str(error).startswith(f"the cloud at 127.0.0.1:{port} can't be reached: ")
