"""Our cloud in front of an unmodified EdgeCore, played by ``tests.support.stock_edge``."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudSettings
from streamkit.http.answer import LAST_CHUNK, encode_chunk
from streamkit.wire.message import MessageType, encode_message
from tests.support.api_client import ApiClient, api_client
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.frames import BINARY, CONTINUATION, PING, PONG, TEXT, fragments, frame
from tests.support.stock_edge import KubeletCall, StockEdge, stock_edge
from tests.support.wait import until

LOGS = "/containerLogs/default/web/app"
EXEC = "/exec/default/web/app?command=x&input=1&output=1"
PORTS = "/portForward/default/web"
PROXY = "X-Forwarded-Uri: /api/v1/nodes/edge-1/proxy/metrics"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
REMOVE = MessageType.REMOVE_CONNECT


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=CloudDeadlines(close=0.1))
    async with running_cloud(tmp_path / "pki", settings) as running:
        yield running


@pytest.fixture
async def hasty_cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    """One that waits for nothing."""
    deadlines = CloudDeadlines(open=0.2, reconnect=0.05, heartbeat=0.1, heartbeat_timeout=0.4)
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=deadlines)
    async with running_cloud(tmp_path / "pki", settings) as running:
        yield running


async def echo(call: KubeletCall) -> None:
    """A port-forward that sends everything back, until its caller leaves."""
    await call.write(SWITCH)
    while True:
        await call.write(await call.read())


async def down(call: KubeletCall) -> None:
    raise ConnectionRefusedError


async def has_left(cloud: Cloud, node: str = NODE) -> None:
    await until(lambda: cloud.service.registry.find(node) is None)


def seen(edge: StockEdge, opcode: int) -> int:
    """How many control frames of that kind the cloud has sent."""
    return sum(each.opcode == opcode for each in edge.control)


async def at_least(number: int, count: Callable[[], int]) -> None:
    await until(lambda: count() >= number)


async def works(client: ApiClient) -> None:
    """An open echo still answers."""
    data = os.urandom(1000)
    client.writer.write(data)
    assert await client.receive(len(data)) == data


# -- answers -------------------------------------------------------------------------------------

TEXT_BODY = os.urandom(100_000)
ANSWERS = {
    "chunked": CHUNKED
    + encode_chunk(TEXT_BODY[:70_000])
    + encode_chunk(TEXT_BODY[70_000:])
    + LAST_CHUNK,
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(TEXT_BODY) + TEXT_BODY,
    "until close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + TEXT_BODY,
}


@pytest.mark.parametrize("framing", ANSWERS)
async def test_answers_come_back_whole_however_they_are_framed(cloud: Cloud, framing: str) -> None:
    async def kubelet(call: KubeletCall) -> None:
        await call.write(ANSWERS[framing])

    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        for _ in range(2):
            answer = await client.get(LOGS)
            assert (answer.status, answer.body, answer.is_complete) == (200, TEXT_BODY, True)
            await until(lambda: edge.live == 0)
        assert edge.violations == []
        assert {each.type for each in edge.received} == {MessageType.EXEC_CONNECT}
        assert cloud.service.registry.by_name(NODE).session.channel_count == 0


async def test_messages_up_to_the_largest_come_in_fragments(cloud: Cloud) -> None:
    body = os.urandom(3 << 20)

    async def kubelet(call: KubeletCall) -> None:
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        await call.write(body, size=1 << 20)

    async with stock_edge(cloud, kubelet), api_client(cloud) as client:
        assert (await client.get("/metrics", PROXY)).body == body


async def test_every_route_goes_out_as_a_request_that_closes(cloud: Cloud) -> None:
    calls: list[KubeletCall] = []

    async def kubelet(call: KubeletCall) -> None:
        calls.append(call)
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    paths = ("/pods", "/healthz", "/metrics/slis", "/stats/summary", "/logs/", "/run/a/b/c")
    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        for path in paths:
            assert (await client.get(path, PROXY, "Accept: x")).body == b"ok"
        assert edge.violations == []
    assert [call.path for call in calls] == list(paths)
    for call in calls:
        assert call.fields["url"]["Host"] == "127.0.0.1:10350"
        assert call.headers["Connection"] == ["close"]
        assert "Host" not in call.headers


async def test_head_has_no_body_and_leaves_the_connection_usable(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        if call.path == "/missing":
            await call.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n")
        elif call.method == "HEAD":
            await call.write(CHUNKED)
        else:
            await call.write(CHUNKED + encode_chunk(b"body") + LAST_CHUNK)

    async with stock_edge(cloud, kubelet), api_client(cloud) as client:
        for _ in range(2):
            assert (await client.get("/metrics", PROXY, method="HEAD")).status == 200
            assert (await client.get("/missing", PROXY, method="HEAD")).status == 404
            assert (await client.get("/metrics", PROXY)).body == b"body"


async def test_the_kubelets_own_errors_reach_the_user(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        text = b'pod "web" does not exist'
        await call.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(text) + text)

    async with stock_edge(cloud, kubelet), api_client(cloud) as client:
        answer = await client.get(LOGS)
        assert (answer.status, answer.body) == (400, b'pod "web" does not exist')
        status = json.loads((await client.get("/stats/summary", PROXY)).body)
        assert (status["code"], status["message"]) == (404, 'pod "web" does not exist')


@pytest.mark.parametrize(
    "raw", [CHUNKED + encode_chunk(b"one\n"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none\n"]
)
async def test_an_answer_that_breaks_off_never_looks_complete(cloud: Cloud, raw: bytes) -> None:
    async def kubelet(call: KubeletCall) -> None:
        await call.write(raw)

    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        answer = await client.get(LOGS)
        assert answer.body.startswith(b"one\n")
        assert not answer.is_complete
        assert edge.count(REMOVE) == 0


# -- upgraded streams ----------------------------------------------------------------------------


async def test_streams_are_relayed_and_nothing_is_sent_before_the_edges_first_data(
    cloud: Cloud,
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def kubelet(call: KubeletCall) -> None:
        asked.set()
        await go.wait()
        await echo(call)

    early = os.urandom(5000)
    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        upgrading = asyncio.create_task(client.upgrade(PORTS, early=early))
        async with asyncio.timeout(10):
            await asked.wait()
        edge.ping()
        await at_least(1, lambda: seen(edge, PONG))
        assert edge.count(MessageType.DATA) == 0
        go.set()
        assert (await upgrading).status == 101
        assert await client.receive(len(early)) == early
        await works(client)
        assert edge.violations == []


async def test_a_caller_that_leaves_is_told_once_and_nothing_follows(cloud: Cloud) -> None:
    async with stock_edge(cloud, echo) as edge, api_client(cloud) as other:
        await other.upgrade(PORTS)
        for number in range(1, 21):
            async with api_client(cloud) as client:
                await client.upgrade(PORTS, early=b"x" * 1000)
                client.writer.write(b"y" * 100_000)
            await at_least(number, lambda: edge.count(REMOVE))
        await until(lambda: edge.live == 1)
        await works(other)
        assert edge.violations == []
        assert edge.count(REMOVE) == 20


async def test_the_kubelets_end_ends_the_caller_and_is_not_answered(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        await call.write(SWITCH + b"bye")

    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        assert (await client.upgrade(PORTS)).status == 101
        assert await client.rest() == b"bye"
        edge.ping()
        await at_least(1, lambda: seen(edge, PONG))
        assert edge.count(REMOVE) == 0


async def test_a_refused_upgrade_is_an_answer_and_over_for_the_edge_too(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        await call.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope")
        await call.read()

    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        for number in (1, 2):
            answer = await client.upgrade(EXEC)
            assert (answer.status, answer.body) == (403, b"nope")
            await at_least(number, lambda: edge.count(REMOVE))
        await until(lambda: edge.live == 0)
        assert edge.violations == []


async def test_a_lost_edge_is_told_on_the_error_stream(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        await call.write(SWITCH)
        await call.read()

    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        await client.upgrade(EXEC)
        edge.abort()
        assert b'"status": "Failure"' in await client.rest()
        await has_left(cloud)


# -- an edge that does not answer ------------------------------------------------------------------


async def test_a_kubelet_that_is_down_is_given_up_in_the_right_shape(hasty_cloud: Cloud) -> None:
    async with stock_edge(hasty_cloud, down) as edge, api_client(hasty_cloud) as client:
        answer = await client.get(LOGS)
        assert answer.status == 500
        assert answer.body == b"the edge did not answer within 0.2 s [KS3003]"
        for upgraded in (await client.upgrade(EXEC), await client.get("/pods", PROXY)):
            status = json.loads(upgraded.body)
            assert (upgraded.status, status["code"], status["reason"]) == (504, 504, "Timeout")
            assert "the edge did not answer within 0.2 s" in status["message"]
        await until(lambda: edge.count(REMOVE) == 3)
        assert [edge.count(REMOVE, channel_id) for channel_id in (1, 2, 3)] == [1, 1, 1]
        assert edge.violations == []


async def test_removes_unasked_and_of_unknown_ids_are_normal(hasty_cloud: Cloud) -> None:
    async with stock_edge(hasty_cloud, echo) as edge, api_client(hasty_cloud) as client:
        await client.upgrade(PORTS)
        for channel_id in (0, 7, 1 << 60):
            for kind in (REMOVE, MessageType.DATA, MessageType.CLOSE_CONNECT, 99):
                edge.send(channel_id, kind, b"x")
        edge.send(1, 99, b"x")
        edge.send(1, MessageType.LOGS_CONNECT, b"{}")
        await works(client)
        edge.send(1, REMOVE)
        assert await client.rest() == b""


# -- signs of life -----------------------------------------------------------------------------


async def test_an_edge_that_only_pings_is_alive(hasty_cloud: Cloud) -> None:
    # Its reader is stuck in a channel whose process takes no input.
    async with stock_edge(hasty_cloud, echo) as edge, api_client(hasty_cloud) as client:
        await client.upgrade(PORTS)
        edge.answers_pings = False
        for number in range(1, 11):
            await at_least(number, lambda: seen(edge, PING))
            edge.ping()
        assert not edge.is_closed
        await works(client)


async def test_an_edge_that_is_silent_is_given_up(hasty_cloud: Cloud) -> None:
    async with stock_edge(hasty_cloud, echo) as edge, api_client(hasty_cloud) as client:
        await client.upgrade(PORTS)
        edge.answers_pings = False
        assert await client.rest() == b""
        await has_left(hasty_cloud)
        await until(lambda: edge.is_closed)


async def test_pings_are_answered_in_the_middle_of_a_transfer(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        await call.write(CHUNKED)
        for _ in range(5):
            await call.write(encode_chunk(bytes(50_000)))
            edge.ping()
        await at_least(5, lambda: seen(edge, PONG))
        await call.write(LAST_CHUNK)

    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        assert (await client.get(LOGS)).body == bytes(250_000)
        assert {each.payload for each in edge.control if each.opcode == PONG} == {b"ping you"}


# -- what is no message ------------------------------------------------------------------------


async def test_binary_messages_and_fragments_of_any_size_are_taken(cloud: Cloud) -> None:
    async def kubelet(call: KubeletCall) -> None:
        message = encode_message(call.channel_id, MessageType.DATA, SWITCH)
        edge.send_raw(frame(BINARY, message, masked=True))
        message = encode_message(call.channel_id, MessageType.DATA, b"\xff\xfe" * 10)
        edge.send_raw(fragments(message, 1))
        edge.send_raw(frame(TEXT, b"", fin=False, masked=True))
        edge.ping()
        message = encode_message(call.channel_id, MessageType.DATA, b"end")
        edge.send_raw(frame(CONTINUATION, message, masked=True))
        await call.read()

    async with stock_edge(cloud, kubelet) as edge, api_client(cloud) as client:
        assert (await client.upgrade(PORTS)).status == 101
        assert await client.receive(23) == b"\xff\xfe" * 10 + b"end"


MALFORMED = {
    "empty": fragments(b""),
    "one integer": fragments(b"\x02"),
    "cut integer": fragments(b"\x02\x80"),
    "overlong integer": fragments(b"\xff" * 11),
    "too large an integer": fragments(b"\xff" * 9 + b"\x02\x03"),
    "unmasked": frame(TEXT, b"\x02\x03", masked=False),
    "unknown opcode": frame(0x5, b"\x02\x03", masked=True),
    "too large a frame": frame(TEXT, bytes(3 << 20), masked=True)[:1000],
    "too large a message": fragments(bytes(3 << 20), 1 << 16),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_message_ends_that_tunnel_alone(
    cloud: Cloud, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        stock_edge(cloud, echo) as edge,
        stock_edge(cloud, echo, node="edge-2", node_ip="10.0.0.2"),
        api_client(cloud) as client,
        api_client(cloud) as other,
    ):
        await client.upgrade(PORTS, PROXY)
        await other.upgrade(PORTS, PROXY.replace("edge-1", "edge-2"))
        edge.send_raw(sent)
        await has_left(cloud)
        await until(lambda: edge.is_closed)
        assert [each.close_code for each in edge.control if each.opcode == 8] in ([1002], [1009])
        assert await client.rest() == b""
        await works(other)
    assert not [record for record in caplog.records if record.levelno >= logging.CRITICAL]
