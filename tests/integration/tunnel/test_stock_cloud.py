"""Our edge behind an unmodified CloudCore, played by ``tests.support.stock_cloud``."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from streamkit.errors import LogUnavailable, StreamingDialFailed
from streamkit.wire.exchange import ResponseHead
from streamkit.wire.message import MessageType, encode_message
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame
from tests.support.stock_cloud import (
    ATTACH,
    DATA,
    EXEC,
    LOGS,
    METRICS,
    REMOVE,
    StockCloud,
    edge_of,
    stock_cloud,
)
from tests.support.wait import until

SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
RAW_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"

pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[StockCloud]:
    async with stock_cloud(tmp_path / "pki") as running:
        yield running
        assert [tunnel.violations for tunnel in running.tunnels] == [[]] * len(running.tunnels)


async def echo(exchange: Exchange) -> None:
    await exchange.send_head(SWITCH)
    while data := await exchange.read():
        await exchange.write(data)


async def test_the_edge_presents_itself_as_the_stock_one(cloud: StockCloud) -> None:
    async with edge_of(cloud, echo) as (tunnel, _):
        raw = tunnel.raw
        assert raw.path == "/v1/kubeedge/connect"
        assert raw.headers["sessionhostnameoverride"] == "edge-1"
        assert raw.headers["sessioninternalip"] == "10.0.0.1"
        assert raw.headers["sec-websocket-version"] == "13"
        assert "sec-websocket-extensions" not in raw.headers
        subject = raw.writer.get_extra_info("peercert")["subject"]
        assert (("commonName", "system:node:edge-1"),) in subject
        await until(lambda: any(each.opcode == PING for each in tunnel.control))


# -- the four kinds --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LOGS, METRICS])
async def test_logs_and_metrics_are_the_body_alone(cloud: StockCloud, kind: int) -> None:
    body = os.urandom(3_000_000)

    async def serve(exchange: Exchange) -> None:
        assert (exchange.request.method, exchange.request.target) == ("GET", "/x?follow=true&a=%20")
        await exchange.send_head(ResponseHead(200, (("Content-Type", "text/plain"),)))
        for begin in range(0, len(body), 100_000):
            await exchange.write(body[begin : begin + 100_000])

    async with edge_of(cloud, serve) as (tunnel, _):
        tunnel.open(1, kind, "/x", query="follow=true&a=%20")
        assert await tunnel.whole(1) == body


@pytest.mark.parametrize("kind", [EXEC, ATTACH])
async def test_exec_and_attach_are_the_kubelets_raw_bytes(cloud: StockCloud, kind: int) -> None:
    methods: list[str] = []

    async def serve(exchange: Exchange) -> None:
        methods.append(exchange.request.method)
        await exchange.send_head(SWITCH)
        assert await exchange.read() == b"typed"
        await exchange.write(b"shown")

    async with edge_of(cloud, serve) as (tunnel, _):
        tunnel.open(1, kind, "/exec/default/web/app")
        await until(lambda: tunnel.data(1) == RAW_SWITCH)
        tunnel.send(1, DATA, b"typed")
        assert await tunnel.whole(1) == RAW_SWITCH + b"shown"
    assert methods == ["POST" if kind == EXEC else "GET"]


async def test_data_right_behind_the_connect_message_is_not_lost(cloud: StockCloud) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(SWITCH)
        await exchange.write(await exchange.read())

    async with edge_of(cloud, serve) as (tunnel, _):
        for channel_id in range(1, 20):
            tunnel.open(channel_id, EXEC, "/exec/default/web/app")
            tunnel.send(channel_id, DATA, b"early")
        for channel_id in range(1, 20):
            assert await tunnel.whole(channel_id) == RAW_SWITCH + b"early"


async def test_errors_are_told_in_each_kinds_own_way(cloud: StockCloud) -> None:
    async def serve(exchange: Exchange) -> None:
        if exchange.request.path == "/down":
            raise StreamingDialFailed("the kubelet can't be reached")
        if exchange.request.path == "/late":
            await exchange.send_head(ResponseHead(200))
            await exchange.write(b"one\n")
            raise LogUnavailable("the disk is gone")
        raise KubeletAnswer(404, "no such pod\n")

    async with edge_of(cloud, serve) as (tunnel, _):
        tunnel.open(1, LOGS, "/missing")
        assert await tunnel.whole(1) == b"no such pod\n"
        tunnel.open(2, EXEC, "/missing")
        head, _, body = (await tunnel.whole(2)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert (b"Content-Length: 12" in head, body) == (True, b"no such pod\n")
        tunnel.open(3, LOGS, "/down")
        assert await tunnel.whole(3) == b"the kubelet can't be reached"
        tunnel.open(4, EXEC, "/down")
        assert (await tunnel.whole(4)).startswith(b"HTTP/1.1 500 ")
        tunnel.open(5, LOGS, "/late")
        assert await tunnel.whole(5) == b"one\n\nthe disk is gone\n"
        tunnel.open(6, EXEC, "/late")
        assert (await tunnel.whole(6)).endswith(b"\r\n\r\n4\r\none\n\r\n")


# -- the end of a channel --------------------------------------------------------------------------


async def test_thousands_of_removes_are_answered_once(cloud: StockCloud) -> None:
    async with edge_of(cloud, echo) as (tunnel, kubelet):
        tunnel.open(1, EXEC, "/exec/default/web/app")
        await until(lambda: tunnel.data(1) == RAW_SWITCH)
        for _ in range(5000):
            tunnel.send(1, REMOVE)
        await tunnel.answers()
        await until(lambda: kubelet.live == 0)
        assert (tunnel.removes(1), len(cloud.tunnels)) == (1, 1)


async def test_a_remove_for_a_request_that_has_ended_is_ignored(cloud: StockCloud) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))

    async with edge_of(cloud, serve) as (tunnel, _):
        tunnel.open(1, LOGS, "/x")
        await tunnel.whole(1)
        tunnel.send(1, REMOVE)
        tunnel.send(1, DATA, b"late")
        tunnel.send(99, REMOVE)
        tunnel.send(99, DATA, b"unknown")
        await tunnel.answers()
        assert (tunnel.removes(1), tunnel.removes(99)) == (1, 0)


async def test_what_is_no_request_is_answered_with_a_remove(cloud: StockCloud) -> None:
    async with edge_of(cloud, echo) as (tunnel, kubelet):
        tunnel.send(1, EXEC, b"{")
        tunnel.send(2, LOGS, b"")
        tunnel.open(3, EXEC, "/x", MessID=4)
        tunnel.open(5, METRICS, "relative")
        for channel_id in (1, 2, 3, 5):
            assert await tunnel.whole(channel_id) == b""
        tunnel.open(6, EXEC, "/x", header=None)
        await until(lambda: tunnel.data(6) == RAW_SWITCH)
        assert kubelet.live == 1


async def test_an_id_that_is_used_again_is_a_new_channel(cloud: StockCloud) -> None:
    seen: list[str] = []

    async def serve(exchange: Exchange) -> None:
        seen.append(exchange.request.path)
        await echo(exchange)

    async with edge_of(cloud, serve) as (tunnel, kubelet):
        tunnel.open(1, EXEC, "/first")
        await until(lambda: kubelet.live == 1)
        tunnel.open(1, EXEC, "/second")
        await until(lambda: seen == ["/first", "/second"] and kubelet.live == 1)
        tunnel.send(1, DATA, b"x")
        await until(lambda: tunnel.data(1).endswith(b"x"))


async def test_a_handler_that_takes_no_input_costs_its_own_channel(
    cloud: StockCloud, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(exchange: Exchange) -> None:
        if exchange.request.path == "/stalls":
            await exchange.send_head(SWITCH)
            await asyncio.Event().wait()
        await echo(exchange)

    async with edge_of(cloud, serve, buffer_limit=1 << 20) as (tunnel, kubelet):
        tunnel.open(1, EXEC, "/stalls")
        tunnel.open(2, EXEC, "/echoes")
        for _ in range(17):
            tunnel.send(1, DATA, bytes(1 << 16))
        assert await tunnel.whole(1) == RAW_SWITCH
        await until(lambda: kubelet.live == 1)
        tunnel.send(2, DATA, b"on")
        await until(lambda: tunnel.data(2) == RAW_SWITCH + b"on")
    lines = [record.getMessage() for record in caplog.records if "channel 1" in record.getMessage()]
    assert lines == ["channel 1 is reset: the reader stalled and the peer can't be told to wait"]


def is_steady(count: Callable[[], int]) -> Callable[[], bool]:
    """Whether the number has stayed the same for the last 200 looks."""
    looks: list[int] = []

    def look() -> bool:
        looks.append(count())
        return len(looks) > 200 and len(set(looks[-200:])) == 1

    return look


async def test_a_cloud_that_reads_nothing_stops_the_source(cloud: StockCloud) -> None:
    written = 0

    async def serve(exchange: Exchange) -> None:
        nonlocal written
        await exchange.send_head(ResponseHead(200))
        while written < 100_000_000:
            await exchange.write(bytes(100_000))
            written += 100_000

    async with edge_of(cloud, serve) as (tunnel, _):
        tunnel.reads.clear()
        tunnel.open(1, LOGS, "/x")
        await until(lambda: written > 0)
        await until(is_steady(lambda: written))
        assert 0 < written < 50_000_000
        tunnel.send(1, REMOVE)
        tunnel.reads.set()
        await tunnel.whole(1)


# -- the tunnel ----------------------------------------------------------------------------------


async def closed_with(cloud: StockCloud, code: int) -> None:
    """The first tunnel is closed with that code, and the edge dials again."""
    await cloud.accept()
    first = cloud.tunnels[0]
    await until(lambda: first.is_closed)
    assert [each.close_code for each in first.control if each.opcode == CLOSE] == [code]


async def test_close_connect_is_obeyed_and_the_edge_comes_back(
    cloud: StockCloud, caplog: pytest.LogCaptureFixture
) -> None:
    async with edge_of(cloud, echo) as (tunnel, kubelet):
        tunnel.open(1, EXEC, "/x")
        await until(lambda: kubelet.live == 1)
        tunnel.send(0, MessageType.CLOSE_CONNECT, b"failed to Update KubeletEndpoint Port")
        await closed_with(cloud, 4003)
        await until(lambda: kubelet.live == 0)
    expected = "the cloud closed the tunnel: failed to Update KubeletEndpoint Port [KS2005]"
    assert any(record.getMessage().startswith(expected) for record in caplog.records)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x80", b"\xff" * 11])
async def test_what_is_no_message_ends_the_tunnel_and_the_edge_comes_back(
    cloud: StockCloud, payload: bytes
) -> None:
    async with edge_of(cloud, echo) as (tunnel, kubelet):
        tunnel.open(1, EXEC, "/x")
        await until(lambda: kubelet.live == 1)
        tunnel.raw.send(frame(TEXT, payload, masked=False))
        await closed_with(cloud, 1002)
        await until(lambda: kubelet.live == 0)


async def test_unknown_types_binary_messages_and_fragments_are_taken(cloud: StockCloud) -> None:
    async with edge_of(cloud, echo) as (tunnel, _):
        tunnel.open(1, EXEC, "/x")
        tunnel.send(1, 7, b"?")
        tunnel.send(1, 1 << 40, b"?")
        message = encode_message(1, DATA, b"binary \xff ")
        tunnel.raw.send(frame(BINARY, message, masked=False))
        message = encode_message(1, DATA, b"in \xc3 pieces")
        tunnel.raw.send(frame(TEXT, message[:5], fin=False, masked=False))
        tunnel.raw.send(frame(CONTINUATION, message[5:], masked=False))
        await until(lambda: tunnel.data(1) == RAW_SWITCH + b"binary \xff in \xc3 pieces")


@pytest.mark.parametrize("way", ["FIN", "RST"])
async def test_a_lost_cloud_ends_what_runs_and_is_dialled_again(
    cloud: StockCloud, way: str
) -> None:
    async with edge_of(cloud, echo) as (tunnel, kubelet):
        tunnel.open(1, EXEC, "/x")
        await until(lambda: kubelet.live == 1)
        if way == "FIN":
            tunnel.raw.writer.close()
        else:
            tunnel.raw.abort()
        again = await cloud.accept()
        await until(lambda: kubelet.live == 0)
        again.open(1, EXEC, "/x")
        await until(lambda: again.data(1) == RAW_SWITCH)


async def test_a_cloud_that_answers_no_ping_at_first_is_waited_for(cloud: StockCloud) -> None:
    async with edge_of(cloud, echo, heartbeat=0.05, silence=0.2) as (tunnel, _):
        tunnel.answers_pings = False
        await until(lambda: sum(each.opcode == PING for each in tunnel.control) > 3)
        assert not tunnel.is_closed
        tunnel.answers_pings = True
        await until(lambda: sum(each.opcode == PING for each in tunnel.control) > 8)
        assert len(cloud.tunnels) == 1
        tunnel.answers_pings = False
        await cloud.accept()
        await until(lambda: tunnel.is_closed)


async def test_an_edge_that_stops_says_so(cloud: StockCloud) -> None:
    async with edge_of(cloud, echo) as (tunnel, kubelet):
        tunnel.open(1, EXEC, "/x")
        await until(lambda: kubelet.live == 1)
    await until(lambda: tunnel.is_closed)
    assert [each.close_code for each in tunnel.control if each.opcode == CLOSE] == [1001]
