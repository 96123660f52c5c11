"""Tunnels and requests that begin and end in every way."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import edgestream.tunnel
from cloudstream.config import CloudConfig, CloudDeadlines, CloudLimits, CloudSettings
from cloudstream.service import CloudService
from edgestream.kubelet.exchange import Exchange
from edgestream.tunnel import TunnelOptions, dial
from streamkit.errors import DialFailed, HandshakeRejected, PortInUse, StreamError, UntrustedPeer
from streamkit.http.answer import encode_chunk
from streamkit.pki.contexts import tunnel_client_context
from streamkit.pki.issue import issue_all
from streamkit.session.v1_cloud import V1CloudSession
from streamkit.wire.exchange import ResponseHead
from streamkit.wire.v2_message import SESSION_HEADER, SUBPROTOCOL
from tests.support.api_client import ApiClient, api_client
from tests.support.cloud import NODE, Cloud, running_cloud, tls_files
from tests.support.edge import connected_edge
from tests.support.frames import CLOSE
from tests.support.link import link_to
from tests.support.stock_edge import KubeletCall, stock_edge
from tests.support.wait import until

LOGS = "/containerLogs/default/web/app"
PORTS = "/portForward/default/web"
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
RAW_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with running(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def running(
    tmp_path: Path, deadlines: CloudDeadlines | None = None, limits: CloudLimits | None = None
) -> AsyncIterator[Cloud]:
    settings = CloudSettings(
        bind_address="127.0.0.1",
        deadlines=deadlines or CloudDeadlines(close=0.1, reconnect=0.1),
        limits=limits or CloudLimits(),
    )
    async with running_cloud(tmp_path / "pki", settings) as made:
        yield made


async def echo(exchange: Exchange) -> None:
    await exchange.send_head(SWITCH)
    while data := await exchange.read():
        await exchange.write(data)


async def raw_echo(call: KubeletCall) -> None:
    await call.write(RAW_SWITCH)
    while True:
        await call.write(await call.read())


async def never(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def works(client: ApiClient) -> None:
    """An open echo still answers."""
    data = os.urandom(1000)
    client.writer.write(data)
    assert await client.receive(len(data)) == data


def proxied(node: str) -> str:
    return f"X-Forwarded-Uri: /api/v1/nodes/{node}/proxy/x"


# -- who may connect -------------------------------------------------------------------------------


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


@pytest.fixture(params=["picows", "websockets"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries that an edge may run on."""
    monkeypatch.setattr(edgestream.tunnel, "has_picows", lambda: request.param == "picows")


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


# -- tunnels come and go -----------------------------------------------------------------------


async def test_the_newest_tunnel_wins_and_outlives_the_older(cloud: Cloud) -> None:
    async with stock_edge(cloud, raw_echo) as older, api_client(cloud) as client:
        assert (await client.upgrade(PORTS)).status == 101
        await works(client)
        async with stock_edge(cloud, raw_echo, node_ip="10.0.0.2") as newer:
            await until(lambda: older.is_closed)
            (close,) = [each for each in older.control if each.opcode == CLOSE]
            assert close.close_code == 4001
            assert close.close_reason == 'a newer tunnel of node "edge-1" took over'
            assert await client.rest() == b""
            older.abort()
            async with api_client(cloud) as other:
                assert (await other.upgrade(PORTS, proxied(NODE))).status == 101
                await works(other)
                assert (older.live, newer.live) == (0, 1)
            node = cloud.service.registry.by_name(NODE)
            assert (len(cloud.service.registry), node.internal_ip) == (1, "10.0.0.2")
    await until(lambda: len(cloud.service.registry) == 0)


async def test_a_stopping_cloud_tells_its_edges_and_ends_its_callers(cloud: Cloud) -> None:
    async with (
        stock_edge(cloud, raw_echo) as edge,
        api_client(cloud) as client,
        api_client(cloud),
    ):
        await client.upgrade(PORTS)
        await works(client)
        cloud.task.cancel()
        await until(lambda: edge.is_closed)
        assert await client.rest() == b""
        assert [each.close_code for each in edge.control if each.opcode == CLOSE] == [1001]


@pytest.mark.parametrize("who", ["cloud", "edge"])
async def test_a_black_hole_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    """By the side whose deadline is the shorter one; the other one would wait for minutes."""
    patient, hasty = (300.0, 600.0), (0.1, 0.3)
    of_cloud, of_edge = (hasty, patient) if who == "cloud" else (patient, hasty)
    deadlines = CloudDeadlines(
        heartbeat=of_cloud[0], heartbeat_timeout=of_cloud[1], resume_timeout=0
    )
    caplog.set_level(logging.INFO)
    async with (
        running(tmp_path, deadlines) as cloud,
        link_to(cloud.tunnel_port) as link,
        connected_edge(
            cloud,
            echo,
            port=link.port,
            heartbeat=of_edge[0],
            silence=of_edge[1],
            resume_timeout=0,
        ) as kubelet,
        api_client(cloud) as client,
    ):
        await client.upgrade(PORTS)
        await works(client)
        link.swallow()
        await until(lambda: "was silent for" in caplog.text)
        if who == "cloud":
            assert await client.rest() == b""
            await until(lambda: cloud.service.registry.find(NODE) is None)
        else:
            await until(lambda: kubelet.live == 0)


# -- requests come and go ----------------------------------------------------------------------


async def test_a_caller_that_reads_nothing_costs_its_own_request_and_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def kubelet(call: KubeletCall) -> None:
        if call.path == PORTS:
            await raw_echo(call)
        await call.write(CHUNKED)
        while True:
            await call.write(encode_chunk(bytes(100_000)), size=100_000)
            await asyncio.sleep(0)

    limits = CloudLimits(channel_buffer_bytes=1 << 20)
    async with (
        running(tmp_path, limits=limits) as cloud,
        stock_edge(cloud, kubelet) as edge,
        api_client(cloud) as other,
        api_client(cloud) as stalled,
    ):
        await other.upgrade(PORTS)
        stalled.send("GET", LOGS)
        await stalled.head()
        await until(lambda: edge.live == 1, deadline=30)
        await works(other)
        assert edge.violations == []
        await until(lambda: cloud.service.registry.by_name(NODE).session.channel_count == 1)
        lines = [record.getMessage() for record in caplog.records if "stalled" in record.message]
        assert len(lines) == 1
        assert lines[0].startswith(f"GET {LOGS} from 127.0.0.1:")
        assert lines[0].endswith("the reader stalled and the peer can't be told to wait [KS3002]")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def nothing_left(cloud: Cloud, live: Callable[[], int]) -> AsyncIterator[None]:
    """Whatever the block begins has left no task, file or channel behind when it is over."""
    session = cloud.service.registry.by_name(NODE).session
    tasks, files = len(asyncio.all_tasks()), open_files()
    yield
    await until(lambda: (live(), session.channel_count) == (0, 0))
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    await until(lambda: open_files() <= files)
    if isinstance(session, V1CloudSession):
        assert list(session.mux.channel_ids) == []
    gc.collect()


ABORTS = 200


async def abort_requests(cloud: Cloud) -> None:
    """Requests of each kind, left at different moments."""
    for number in range(ABORTS):
        async with api_client(cloud) as client:
            if number % 2:
                client.send("GET", LOGS + "?follow=true")
            else:
                client.send(
                    "POST", PORTS, "Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0"
                )
            if number % 5:
                await client.head()
            if number % 3 == 0:
                client.writer.write(b"x" * number)


async def test_aborted_requests_leave_nothing_behind(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        if exchange.request.is_upgrade:
            await echo(exchange)
        await exchange.send_head(ResponseHead(200))
        await exchange.write(b"line\n")
        await never(exchange)

    async with connected_edge(cloud, serve) as kubelet, nothing_left(cloud, lambda: kubelet.live):
        await abort_requests(cloud)


async def test_aborted_requests_leave_nothing_behind_at_a_stock_edge(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        if call.path == PORTS:
            await raw_echo(call)
        await call.write(CHUNKED + encode_chunk(b"line\n"))
        await asyncio.Event().wait()

    async with stock_edge(cloud, kubelet) as edge, nothing_left(cloud, lambda: edge.live):
        await abort_requests(cloud)
        assert edge.violations == []


async def test_a_handler_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async with (
        running(tmp_path, CloudDeadlines(open=0.1)) as cloud,
        connected_edge(cloud, never) as kubelet,
        api_client(cloud) as client,
    ):
        answer = await client.get("/pods", proxied(NODE))
        status = json.loads(answer.body)
        assert (answer.status, status["reason"]) == (504, "Timeout")
        assert status["message"] == "the edge did not answer within 0.1 s [KS3003]"
        await until(lambda: kubelet.live == 0)
        assert (await client.get("/pods", proxied(NODE))).status == 504


async def test_no_more_requests_wait_than_may(tmp_path: Path) -> None:
    async with (
        running(tmp_path, limits=CloudLimits(max_pending_opens=2)) as cloud,
        connected_edge(cloud, never) as kubelet,
        api_client(cloud) as first,
        api_client(cloud) as second,
        api_client(cloud) as third,
    ):
        for client in (first, second):
            client.send("GET", "/pods", proxied(NODE))
        await until(lambda: kubelet.live == 2)
        answer = await third.get("/pods", proxied(NODE))
        status = json.loads(answer.body)
        assert (answer.status, status["reason"]) == (503, "TooManyRequests")
        assert status["message"].startswith("2 requests already wait for their edge's answer")
        first.abort()
        await until(lambda: kubelet.live == 1)
        third.send("GET", "/pods", proxied(NODE))
        await until(lambda: kubelet.live == 2)


# -- connections of API servers ------------------------------------------------------------------


async def test_requests_in_a_row_are_answered_in_turn(cloud: Cloud) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(exchange.request.target.encode())

    async with connected_edge(cloud, serve), api_client(cloud) as client:
        for number in range(5):
            client.send("GET", f"/{number}", proxied(NODE))
        for number in range(5):
            assert (await client.answer()).body == f"/{number}".encode()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /pods HTTP/1.1\r\nHost:",
        b"POST /pods HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nnine",
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_request_that_never_comes_to_its_end_is_given_up(
    tmp_path: Path, sent: bytes
) -> None:
    async with (
        running(tmp_path, CloudDeadlines(request_head=0.2)) as cloud,
        api_client(cloud, None) as client,
    ):
        client.writer.write(sent)
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [b"\x80\x03\x00\x01\r\n\r\n", b"GET /\r\n\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"],
    ids=["SPDY", "no version", "no host"],
)
async def test_what_is_no_request_is_answered_and_closed(cloud: Cloud, sent: bytes) -> None:
    async with api_client(cloud) as client:
        client.writer.write(sent)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert answer.body.startswith(b"no usable HTTP request: ")
        assert await client.rest() == b""


async def test_a_client_that_takes_its_time_gets_the_whole_answer(tmp_path: Path) -> None:
    """It may take longer than idle connections are kept. The kernel can't hold all of it."""
    body = os.urandom(1 << 20) * 30

    async def kubelet(call: KubeletCall) -> None:
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        await call.write(body, size=1 << 20)

    loop = asyncio.get_running_loop()
    deadlines = CloudDeadlines(keep_alive=0.1, drain=0.5)
    limits = CloudLimits(channel_buffer_bytes=64 << 20)
    async with (
        running(tmp_path, deadlines, limits) as cloud,
        stock_edge(cloud, kubelet) as edge,
        api_client(cloud) as client,
    ):
        client.send("GET", "/stats/summary")
        await client.head()
        session = cloud.service.registry.by_name(NODE).session
        await until(lambda: (edge.live, session.channel_count) == (0, 0))
        ended = loop.time()
        await until(lambda: loop.time() > ended + 2)
        assert await client.receive(len(body)) == body
        assert await client.rest() == b""
