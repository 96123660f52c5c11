import asyncio
from typing import Any

import pytest

from cloudstream.answers import MAX_BODY
from cloudstream.kubelet_path import Subject
from cloudstream.relay import Relay
from streamkit.errors import ChannelOverflow, IncompleteAnswer, OpenTimeout, TunnelClosed
from streamkit.http.answer import LAST_CHUNK, encode_chunk
from streamkit.session.channel import HIGH_WATER
from streamkit.session.v1_cloud import V1CloudSession
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import MessageType, encode_message
from tests.unit.streamkit.session.v1_messages import DATA, REMOVE, sent

LIMIT = 4096
GET = RequestHead("GET", "/x")
UPGRADE = RequestHead("POST", "/x", (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
LOGS = Subject("containerLogs", "ns", "web")
EXEC = Subject("exec", "ns", "web")
PORTS = Subject("portForward", "ns", "web")
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
FRAME = b"\x00\x00\x00\x05\x00\x00\x00\x02hi"
"""Two bytes of SPDY's stream 5, an exec's stdout."""

REPLY = b"\x80\x03\x00\x02\x00\x00\x00\x00"
"""What a SPDY server's stream begins with."""


class FakeClient:
    """Records what the relay does to the API server's connection."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.body = b""
        self.is_writable = True

    def send_head(self, head: ResponseHead) -> None:
        self.calls.append(head.status)

    def send_body(self, data: bytes | memoryview) -> None:
        self.body += data

    def send_end(self) -> None:
        self.calls.append("end")

    def switch_protocols(self, head: ResponseHead) -> None:
        self.calls.append(head.status)

    def send_raw(self, data: bytes | memoryview) -> None:
        self.body += data

    def finish(self) -> None:
        self.calls.append("finish")

    def abort(self) -> None:
        self.calls.append("abort")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


class Exchange:
    """A relay between a fake client and a real session, whose edge the test plays."""

    def __init__(self, request: RequestHead = GET, subject: Subject = LOGS) -> None:
        self.session = V1CloudSession(buffer_limit=LIMIT)
        self.client = FakeClient()
        self.relay = Relay(self.client, request, subject)
        self._request = request

    async def open(self, *answer: bytes, deadline: float = 5) -> None:
        """Open the channel; the edge answers with these messages."""
        opening = asyncio.ensure_future(
            self.relay.open(self.session, self._request, deadline=deadline)
        )
        await asyncio.sleep(0)
        assert [kind for _, kind, _ in sent(self.session)] == [MessageType.EXEC_CONNECT]
        for data in answer:
            self.receive(data)
        await opening

    def receive(self, data: bytes, kind: int = DATA) -> None:
        self.session.message_received(encode_message(1, kind, data))

    async def finished(self) -> None:
        async with asyncio.timeout(5):
            await self.relay.finished()


def chunked(status: str, *pieces: bytes, end: bool = True) -> bytes:
    head = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(map(encode_chunk, pieces)) + (LAST_CHUNK if end else b"")


async def test_an_answer_is_passed_on_as_it_comes() -> None:
    exchange = Exchange()
    await exchange.open(chunked("200 OK", b"one", end=False))
    assert (exchange.client.calls, exchange.client.body) == ([200], b"one")
    exchange.receive(encode_chunk(b"two") + LAST_CHUNK)
    await exchange.finished()
    exchange.relay.close()
    assert (exchange.client.calls, exchange.client.body) == ([200, "end"], b"onetwo")
    assert (exchange.relay.status, exchange.relay.is_raw) == (200, False)
    assert sent(exchange.session) == []


async def test_an_error_that_would_be_swallowed_waits_for_its_whole_body() -> None:
    exchange = Exchange()
    await exchange.open(chunked("404 Not Found", b'pod "x" ', end=False))
    assert (exchange.client.calls, exchange.relay.is_answered) == ([], False)
    exchange.receive(encode_chunk(b"does not exist") + LAST_CHUNK)
    await exchange.finished()
    assert exchange.client.calls == [400, "end"]
    assert exchange.client.body == b'pod "x" does not exist'
    assert exchange.relay.is_answered


async def test_no_more_of_an_error_is_kept_than_is_read() -> None:
    exchange = Exchange()
    piece = b"x" * 1000
    await exchange.open(chunked("404 Not Found", end=False))
    for _ in range(MAX_BODY // 1000 + 5):
        exchange.receive(encode_chunk(piece))
    exchange.receive(LAST_CHUNK)
    await exchange.finished()
    assert len(exchange.client.body) == MAX_BODY


async def test_an_edge_that_does_not_answer_is_given_up() -> None:
    exchange = Exchange()
    with pytest.raises(OpenTimeout, match=r"the edge did not answer within 0\.01 s") as raised:
        await exchange.open(deadline=0.01)
    assert raised.value.http_status == 504
    assert not exchange.relay.is_answered
    exchange.relay.close()
    exchange.relay.close()
    assert sent(exchange.session) == [(1, REMOVE, b"")]
    exchange.receive(chunked("200 OK", b"late"))
    assert exchange.client.calls == []


async def test_an_answer_that_never_begins_is_an_error_that_can_be_told() -> None:
    exchange = Exchange()
    opening = asyncio.ensure_future(exchange.open())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    exchange.receive(b"", REMOVE)
    with pytest.raises(IncompleteAnswer, match="broke off before its end"):
        await opening
    assert (exchange.client.calls, exchange.relay.is_answered) == ([], False)


async def test_a_switch_that_nobody_asked_for_is_an_error() -> None:
    exchange = Exchange()
    with pytest.raises(IncompleteAnswer):
        await exchange.open(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert exchange.client.calls == []


async def test_a_lost_log_ends_with_a_line_and_broken() -> None:
    exchange = Exchange()
    await exchange.open(chunked("200 OK", b"one\n", end=False))
    exchange.session.close(TunnelClosed("the edge's connection broke"))
    with pytest.raises(TunnelClosed):
        await exchange.finished()
    assert exchange.client.body == b"one\n\nthe edge's connection broke [KS2001]\n"
    assert exchange.client.calls == [200, "abort"]


async def test_other_lost_answers_end_broken_without_a_word() -> None:
    exchange = Exchange(subject=Subject("metrics"))
    await exchange.open(chunked("200 OK", b"one\n", end=False))
    exchange.receive(b"", REMOVE)
    with pytest.raises(IncompleteAnswer):
        await exchange.finished()
    assert (exchange.client.body, exchange.client.calls) == (b"one\n", [200, "abort"])


async def test_an_upgraded_exchange_relays_both_ways() -> None:
    exchange = Exchange(UPGRADE, PORTS)
    exchange.relay.client_data(b"before there is a channel")
    await exchange.open(SWITCH + b"\x80")
    assert exchange.relay.is_raw
    exchange.relay.client_data(b"typed")
    assert sent(exchange.session) == [(1, DATA, b"typed")]
    exchange.receive(b"output")
    exchange.receive(b"", REMOVE)
    await exchange.finished()
    assert exchange.client.body == b"\x80output"
    assert exchange.client.calls == [101, "finish"]


async def test_a_lost_exec_is_told_so_behind_the_last_frame() -> None:
    exchange = Exchange(UPGRADE, EXEC)
    await exchange.open(SWITCH + REPLY + FRAME + FRAME[:5])
    exchange.session.close(TunnelClosed("the edge's connection broke"))
    with pytest.raises(TunnelClosed):
        await exchange.finished()
    assert exchange.client.calls == [101, "finish"]
    # Of the frame that was cut nothing has gone out: stream 1 gets its status instead.
    whole = REPLY + FRAME
    assert exchange.client.body.startswith(whole + b"\x00\x00\x00\x01")
    assert b"the session was lost: the edge's connection broke [KS2001]" in exchange.client.body


async def test_an_exec_that_ends_without_a_status_is_told_so() -> None:
    exchange = Exchange(UPGRADE, EXEC)
    await exchange.open(SWITCH + REPLY + FRAME)
    exchange.receive(b"", REMOVE)
    await exchange.finished()
    assert b"it ended without a status" in exchange.client.body
    assert exchange.client.calls == [101, "finish"]


async def test_a_lost_port_forward_is_just_closed() -> None:
    exchange = Exchange(UPGRADE, PORTS)
    await exchange.open(SWITCH + b"half")
    exchange.session.close(TunnelClosed("broke"))
    assert exchange.client.calls == [101, "abort"]
    assert exchange.client.body == b"half"


async def test_what_a_slow_client_has_not_taken_counts_against_the_channel() -> None:
    exchange = Exchange(UPGRADE, PORTS)
    await exchange.open(SWITCH)
    exchange.client.is_writable = False
    exchange.receive(bytes(LIMIT))
    exchange.client.is_writable = True
    exchange.relay.client_writable()
    exchange.relay.client_writable()
    exchange.client.is_writable = False
    exchange.receive(bytes(LIMIT))
    assert not exchange.session.mux.backlog(1)
    exchange.receive(b"x")
    with pytest.raises(ChannelOverflow):
        await exchange.finished()
    assert exchange.client.calls == [101, "abort"]
    assert len(exchange.client.body) == 2 * LIMIT


async def test_a_slow_edge_stops_the_clients_reading() -> None:
    exchange = Exchange(UPGRADE, PORTS)
    await exchange.open(SWITCH)
    exchange.relay.client_data(bytes(HIGH_WATER + 1))
    assert exchange.client.calls == [101, "pause"]
    sent(exchange.session)
    assert exchange.client.calls == [101, "pause", "resume"]


async def test_a_client_that_leaves_frees_the_channel() -> None:
    exchange = Exchange(UPGRADE, EXEC)
    await exchange.open(SWITCH)
    exchange.relay.close()
    exchange.relay.client_data(b"late")
    assert sent(exchange.session) == [(1, REMOVE, b"")]
    assert exchange.session.channel_count == 0
    exchange.receive(FRAME)
    assert (exchange.client.body, exchange.client.calls) == (b"", [101])


async def test_a_session_that_is_gone_opens_nothing() -> None:
    exchange = Exchange()
    exchange.session.close(TunnelClosed("broke"))
    with pytest.raises(TunnelClosed):
        await exchange.relay.open(exchange.session, GET, deadline=5)
    exchange.relay.close()
    assert exchange.client.calls == []
