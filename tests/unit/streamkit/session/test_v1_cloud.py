from collections.abc import Callable

import pytest

from streamkit.errors import (
    BadConnectRequest,
    ChannelOverflow,
    ChannelReset,
    IncompleteAnswer,
    LocalProtocolError,
    MalformedMessage,
    TunnelClosed,
)
from streamkit.http.answer import encode_chunk
from streamkit.session.channel import HIGH_WATER, LOW_WATER, Channel
from streamkit.session.v1_cloud import V1CloudSession
from streamkit.wire.connect_request import decode_connect_request
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import MessageType, encode_message
from tests.support.handler import BrokenHandler, RecordingHandler
from tests.support.messages import messages_of
from tests.unit.streamkit.session.v1_messages import DATA, REMOVE, sent

LIMIT = 4096
GET = RequestHead("GET", "/x", (("Accept", "a"), ("Connection", "keep-alive")))
UPGRADE = RequestHead("POST", "/x", (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Cloud:
    """A session with one channel, the connect message already sent."""

    def __init__(self, request: RequestHead, *, consumes: bool = True) -> None:
        self.session = V1CloudSession(buffer_limit=LIMIT)
        self.handler = RecordingHandler()
        self.channel = self.session.open(request, self.handler)
        if consumes:
            self.handler.channel = self.channel
        self.connect = sent(self.session)

    def receive(self, data: bytes, kind: int = DATA) -> None:
        self.session.message_received(encode_message(self.channel.channel_id, kind, data))


def test_a_plain_request_asks_the_kubelet_to_close_and_announces_no_body() -> None:
    headers = (*GET.headers, ("Keep-Alive", "timeout=5"), ("Content-Length", "3"))
    ((channel_id, kind, data),) = Cloud(RequestHead("POST", "/x", headers)).connect
    assert (channel_id, kind) == (1, MessageType.EXEC_CONNECT)
    carried = RequestHead("POST", "/x", (("Accept", "a"), ("Connection", "close")))
    assert decode_connect_request(data, kind) == (1, carried)


def test_an_upgrade_goes_out_as_it_came() -> None:
    ((_, kind, data),) = Cloud(UPGRADE).connect
    assert decode_connect_request(data, kind) == (1, UPGRADE)


def test_the_answer_is_read_as_head_body_and_end() -> None:
    cloud = Cloud(GET)
    cloud.receive(CHUNKED + encode_chunk(b"one"))
    assert [head.status for head in cloud.handler.heads] == [200]
    assert (bytes(cloud.handler.body), cloud.handler.ends) == (b"one", 0)
    cloud.receive(encode_chunk(b"two") + b"0\r\n\r\n")
    assert (bytes(cloud.handler.body), cloud.handler.ends) == (b"onetwo", 1)
    assert cloud.session.channel_count == 0
    cloud.receive(b"", REMOVE)
    assert (cloud.handler.ends, cloud.handler.errors, sent(cloud.session)) == (1, [], [])


def test_an_answer_until_close_ends_with_the_edges_remove() -> None:
    cloud = Cloud(GET)
    cloud.receive(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert cloud.handler.ends == 0
    cloud.receive(b"", REMOVE)
    assert (bytes(cloud.handler.body), cloud.handler.ends) == (b"all of it", 1)
    assert sent(cloud.session) == []


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 2", CHUNKED, CHUNKED + b"5\r\nab"])
def test_an_answer_that_breaks_off_is_reset(data: bytes) -> None:
    cloud = Cloud(GET)
    cloud.receive(data)
    cloud.receive(b"", REMOVE)
    (error,) = cloud.handler.errors
    assert isinstance(error, IncompleteAnswer)
    assert str(error) == "the edge's answer broke off before its end"
    assert (cloud.handler.ends, sent(cloud.session)) == (0, [])


def test_what_is_no_http_costs_the_channel() -> None:
    cloud = Cloud(GET)
    cloud.receive(b"SSH-2.0-OpenSSH\r\n\r\n")
    (error,) = cloud.handler.errors
    assert isinstance(error, IncompleteAnswer)
    assert "no HTTP" in str(error)
    assert sent(cloud.session) == [(1, REMOVE, b"")]
    assert cloud.session.channel_count == 0


def test_a_handler_with_a_bug_costs_its_own_channel(caplog: pytest.LogCaptureFixture) -> None:
    cloud = Cloud(GET)
    broken = BrokenHandler()
    channel = cloud.session.open(GET, broken)
    sent(cloud.session)
    data = CHUNKED + encode_chunk(b"one")
    cloud.session.message_received(encode_message(channel.channel_id, DATA, data))
    assert [str(error) for error in broken.errors] == ["internal error: ValueError"]
    assert sent(cloud.session) == [(channel.channel_id, REMOVE, b"")]
    cloud.receive(data)
    assert (bytes(cloud.handler.body), cloud.handler.errors) == (b"one", [])
    assert "secret" not in caplog.text


def test_a_refused_upgrade_is_over_at_its_end() -> None:
    cloud = Cloud(UPGRADE)
    cloud.receive(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope")
    assert (bytes(cloud.handler.body), cloud.handler.ends) == (b"nope", 1)
    assert sent(cloud.session) == [(1, REMOVE, b"")]
    cloud.receive(b"", REMOVE)
    cloud.channel.reset(ChannelReset("late"))
    assert (cloud.handler.ends, cloud.handler.errors, sent(cloud.session)) == (1, [], [])


def test_an_upgraded_channel_relays_bytes() -> None:
    cloud = Cloud(UPGRADE)
    cloud.channel.write(b"typed early")
    assert sent(cloud.session) == []
    cloud.receive(SWITCH + b"\x80\x03")
    assert [head.status for head in cloud.handler.heads] == [101]
    assert sent(cloud.session) == [(1, DATA, b"typed early")]
    cloud.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    assert bytes(cloud.handler.body) == b"\x80\x03HTTP/1.1 200 OK\r\n\r\n"
    cloud.receive(b"", REMOVE)
    assert (cloud.handler.ends, sent(cloud.session)) == (1, [])


def test_writing_pauses_above_the_high_mark_and_resumes_at_the_low_one() -> None:
    cloud = Cloud(UPGRADE)
    seen = []
    for size in (HIGH_WATER, 1):
        cloud.channel.write(bytes(size))
        seen.append(cloud.handler.is_paused)
    assert seen == [False, True]
    cloud.receive(SWITCH)
    left = HIGH_WATER + 1
    for message in messages_of(cloud.session):
        left -= len(message) - 2
        assert cloud.handler.is_paused is (left > LOW_WATER)
    assert left == 0


@pytest.mark.parametrize(
    ("request_head", "end", "expected"),
    [
        (UPGRADE, lambda channel: channel.end(), [(1, REMOVE, b"")]),
        (GET, lambda channel: channel.end(), []),
        (UPGRADE, lambda channel: channel.reset(ChannelReset("gone")), [(1, REMOVE, b"")]),
        (GET, lambda channel: channel.reset(ChannelReset("gone")), [(1, REMOVE, b"")]),
    ],
    ids=["upgrade ended", "plain ended", "upgrade reset", "plain reset"],
)
def test_a_caller_that_leaves_costs_one_remove(
    request_head: RequestHead,
    end: Callable[[Channel], None],
    expected: list[tuple[int, int, bytes]],
) -> None:
    cloud = Cloud(request_head)
    end(cloud.channel)
    end(cloud.channel)
    cloud.channel.write(b"late")
    assert sent(cloud.session) == expected
    assert cloud.session.channel_count == (0 if expected else 1)
    assert (cloud.handler.errors, cloud.handler.ends) == ([], 0)


def test_a_handler_that_stalls_is_reset_and_told_why() -> None:
    cloud = Cloud(UPGRADE, consumes=False)
    other = RecordingHandler()
    cloud.session.open(GET, other)
    cloud.receive(SWITCH)
    cloud.receive(bytes(LIMIT))
    assert cloud.handler.errors == []
    cloud.receive(b"x")
    (error,) = cloud.handler.errors
    assert isinstance(error, ChannelOverflow)
    assert (1, REMOVE, b"") in sent(cloud.session)
    assert other.errors == []
    assert cloud.session.channel_count == 1


def test_framing_does_not_count_against_the_limit() -> None:
    cloud = Cloud(GET)
    cloud.receive(CHUNKED)
    for _ in range(LIMIT):
        cloud.receive(encode_chunk(b"x"))
    assert len(cloud.handler.body) == LIMIT
    assert cloud.handler.errors == []


def test_closing_resets_every_channel_once_and_for_good() -> None:
    cloud = Cloud(UPGRADE)
    other = RecordingHandler()
    cloud.session.open(GET, other)
    error = TunnelClosed("the link broke")
    cloud.session.close(error)
    cloud.session.close(TunnelClosed("again"))
    assert (cloud.handler.errors, other.errors) == ([error], [error])
    assert cloud.session.channel_count == 0
    with pytest.raises(TunnelClosed, match="the link broke"):
        cloud.session.open(GET, other)


def test_a_malformed_message_is_the_tunnels_end() -> None:
    cloud = Cloud(GET)
    with pytest.raises(MalformedMessage):
        cloud.session.message_received(b"\x80")


def test_a_request_that_can_not_be_carried_opens_nothing() -> None:
    session = V1CloudSession(buffer_limit=LIMIT)
    with pytest.raises(BadConnectRequest):
        session.open(RequestHead("GET", "*"), RecordingHandler())
    assert (session.channel_count, sent(session)) == (0, [])


def test_heads_are_the_edges_to_send() -> None:
    with pytest.raises(LocalProtocolError):
        Cloud(GET).channel.send_head(ResponseHead(200))


def test_output_is_announced() -> None:
    session = V1CloudSession(buffer_limit=LIMIT)
    announced: list[str] = []
    session.output_ready = lambda: announced.append("ready")
    session.attach()
    channel = session.open(UPGRADE, RecordingHandler())
    session.detach()
    announced.clear()
    steps: tuple[Callable[[], None], ...] = (
        lambda: session.message_received(encode_message(1, DATA, SWITCH)),
        lambda: channel.write(b"x"),
        lambda: channel.reset(ChannelReset("gone")),
    )
    for step in steps:
        step()
        assert announced
        announced.clear()


def test_the_tunnel_is_read_on_when_a_reader_has_caught_up() -> None:
    cloud = Cloud(UPGRADE, consumes=False)
    asked: list[bool] = []
    cloud.session.read_on = lambda: asked.append(cloud.session.is_crowded)
    cloud.receive(SWITCH + bytes(LIMIT // 2 + 1))
    assert cloud.session.is_crowded
    cloud.channel.consumed(1)
    assert asked == []
    cloud.channel.consumed(LIMIT // 4)
    assert asked == [False]
    cloud.channel.consumed(1)
    assert asked == [False]
