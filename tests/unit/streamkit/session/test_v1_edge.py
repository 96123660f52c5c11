import json

import pytest

from streamkit.errors import (
    ChannelOverflow,
    ChannelReset,
    HandshakeRejected,
    LogUnavailable,
    MalformedMessage,
    TunnelClosed,
)
from streamkit.session.channel import HIGH_WATER, Channel, ChannelHandler
from streamkit.session.v1_edge import V1EdgeSession
from streamkit.wire.exchange import ResponseHead
from streamkit.wire.message import MessageType, encode_message
from tests.support.handler import BrokenHandler, RecordingHandler
from tests.unit.streamkit.session.v1_messages import DATA, REMOVE, sent

LIMIT = 4096
EXEC, LOGS = MessageType.EXEC_CONNECT, MessageType.LOGS_CONNECT


class Edge:
    """A session whose channels are taken by recording handlers."""

    def __init__(self) -> None:
        self.session = V1EdgeSession(self._accept, buffer_limit=LIMIT)
        self.channels: list[Channel] = []
        self.handlers: list[RecordingHandler] = []

    def _accept(self, channel: Channel) -> ChannelHandler:
        self.channels.append(channel)
        self.handlers.append(RecordingHandler())
        return self.handlers[-1]

    def open(
        self, kind: int = EXEC, channel_id: int = 1, headers: dict[str, list[str]] | None = None
    ) -> Channel:
        fields = {"MessID": channel_id, "url": {"Path": "/x"}, "method": "POST", "header": headers}
        self.receive(json.dumps(fields).encode(), kind, channel_id)
        return self.channels[-1]

    def receive(self, data: bytes, kind: int = DATA, channel_id: int = 1) -> None:
        self.session.message_received(encode_message(channel_id, kind, data))


def text(edge: Edge, channel_id: int = 1) -> bytes:
    """The data of one channel that the edge has to send now, in one piece."""
    return b"".join(data for each, kind, data in sent(edge.session) if each == channel_id)


def test_an_exec_channel_carries_the_raw_answer_and_one_remove() -> None:
    edge = Edge()
    channel = edge.open()
    channel.send_head(ResponseHead(404, (("Content-Length", "2"),)))
    channel.write(b"no")
    channel.end()
    channel.end()
    raw = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    assert sent(edge.session) == [(1, DATA, raw), (1, REMOVE, b"")]
    assert edge.session.channel_count == 0


@pytest.mark.parametrize("kind", [LOGS, MessageType.METRIC_CONNECT])
def test_a_logs_channel_carries_the_body_alone(kind: int) -> None:
    edge = Edge()
    channel = edge.open(kind)
    assert channel.request.method == "GET"
    channel.send_head(ResponseHead(404))
    channel.write(b"not found\n")
    channel.end()
    assert sent(edge.session) == [(1, DATA, b"not found\n"), (1, REMOVE, b"")]


def test_a_handler_with_a_bug_costs_its_own_channel(caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge()
    edge.open(channel_id=1)
    broken = BrokenHandler()
    edge.open(channel_id=2).handler = broken
    for channel_id in (2, 1):
        edge.receive(b"stdin", channel_id=channel_id)
    assert [str(error) for error in broken.errors] == ["internal error: ValueError"]
    assert (bytes(edge.handlers[0].body), edge.handlers[0].errors) == (b"stdin", [])
    assert [each[:2] for each in sent(edge.session)] == [(2, REMOVE)]
    assert "secret" not in caplog.text


def test_an_answer_that_breaks_off_lacks_its_end() -> None:
    edge = Edge()
    channel = edge.open()
    channel.send_head(ResponseHead(200))
    channel.write(b"one")
    channel.reset(LogUnavailable("the disk is gone"))
    channel.write(b"late")
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\none\r\n"
    assert sent(edge.session) == [(1, DATA, raw), (1, REMOVE, b"")]


def test_a_log_that_breaks_off_says_so_in_its_last_line() -> None:
    edge = Edge()
    channel = edge.open(LOGS)
    channel.send_head(ResponseHead(200))
    channel.write(b"one\n")
    channel.reset(LogUnavailable("the disk is gone"))
    assert text(edge) == b"one\n\nthe disk is gone\n"


def test_a_reset_before_the_head_is_a_remove_alone() -> None:
    for kind in (EXEC, LOGS):
        edge = Edge()
        channel = edge.open(kind)
        channel.reset(ChannelReset("nothing to say"))
        channel.send_head(ResponseHead(200))
        assert sent(edge.session) == [(1, REMOVE, b"")]


def test_no_body_is_announced_since_none_is_carried() -> None:
    edge = Edge()
    channel = edge.open(headers={"Content-Length": ["3"], "Accept": ["a"]})
    assert channel.request.headers == (("Accept", "a"),)
    upgrade = {"Connection": ["Upgrade"], "Content-Length": ["0"]}
    channel = edge.open(channel_id=2, headers=upgrade)
    assert channel.request.headers == (("Connection", "Upgrade"), ("Content-Length", "0"))


@pytest.mark.parametrize("connection", ["Upgrade", "close"])
def test_facts_that_a_caller_made_up_are_taken_off(connection: str) -> None:
    forged = {"Connection": [connection], "Edgestream-Pod": ['{"uid":"u","containers":[]}']}
    channel = Edge().open(headers=forged)
    assert channel.request.headers == (("Connection", connection),)


def test_an_upgraded_channel_takes_data_until_its_own_end() -> None:
    edge = Edge()
    channel = edge.open()
    channel.send_head(ResponseHead(101))
    edge.receive(b"typed")
    handler = edge.handlers[0]
    assert (bytes(handler.body), handler.ends) == (b"typed", 0)
    channel.write(b"bye")
    channel.end()
    assert handler.ends == 1
    edge.receive(b"late")
    assert bytes(handler.body) == b"typed"
    assert text(edge).endswith(b"\r\n\r\nbye")


def test_the_clouds_remove_resets_the_channel_and_is_answered_once() -> None:
    edge = Edge()
    channel = edge.open()
    channel.send_head(ResponseHead(200))
    for _ in range(1000):
        edge.receive(b"", REMOVE)
    (error,) = edge.handlers[0].errors
    assert isinstance(error, ChannelReset)
    assert str(error) == "the caller went away"
    channel.write(b"late")
    channel.end()
    assert sent(edge.session) == [(1, REMOVE, b"")]


def test_a_handler_that_stalls_is_reset_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge()
    channel = edge.open()
    edge.open(channel_id=2)
    edge.receive(bytes(LIMIT))
    channel.consumed(1)
    edge.receive(b"x")
    assert edge.handlers[0].errors == []
    edge.receive(b"x")
    edge.receive(b"x")
    (error,) = edge.handlers[0].errors
    assert isinstance(error, ChannelOverflow)
    assert [record.getMessage() for record in caplog.records] == [
        "channel 1 is reset: the reader stalled and the peer can't be told to wait"
    ]
    assert sent(edge.session) == [(1, REMOVE, b"")]
    assert edge.handlers[1].errors == []


def test_unusable_json_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge()
    edge.receive(b"{", EXEC)
    assert (edge.channels, sent(edge.session)) == ([], [(1, REMOVE, b"")])
    assert [record.getMessage() for record in caplog.records] == [
        "channel 1 is refused: a connect message holds no usable JSON request"
    ]


def test_a_second_connect_takes_the_id_over() -> None:
    edge = Edge()
    first = edge.open()
    first.send_head(ResponseHead(200))
    second = edge.open(LOGS)
    assert [type(error) for error in edge.handlers[0].errors] == [ChannelReset]
    first.write(b"of the first")
    first.consumed(10**6)
    first.reset(ChannelReset("late"))
    second.write(b"of the second")
    assert edge.session.channel_count == 1
    assert text(edge) == b"of the second"
    edge.receive(bytes(LIMIT))
    edge.receive(b"x")
    assert [type(error) for error in edge.handlers[1].errors] == [ChannelOverflow]


def test_close_connect_ends_the_tunnel() -> None:
    edge = Edge()
    with pytest.raises(HandshakeRejected, match="failed to Update KubeletEndpoint Port"):
        edge.receive(b"failed to Update KubeletEndpoint Port", MessageType.CLOSE_CONNECT, 0)
    with pytest.raises(MalformedMessage):
        edge.session.message_received(b"")


def test_closing_resets_every_channel_once() -> None:
    edge = Edge()
    edge.open()
    edge.open(channel_id=2)
    error = TunnelClosed("the link broke")
    edge.session.close(error)
    edge.session.close(TunnelClosed("again"))
    assert [handler.errors for handler in edge.handlers] == [[error], [error]]
    assert edge.session.channel_count == 0


def test_writing_pauses_above_the_high_mark() -> None:
    edge = Edge()
    channel = edge.open(LOGS)
    channel.write(bytes(HIGH_WATER + 1))
    seen = [edge.handlers[0].is_paused]
    sent(edge.session)
    seen.append(edge.handlers[0].is_paused)
    assert seen == [True, False]
    channel.write(bytes(HIGH_WATER + 1))
    channel.end()
    sent(edge.session)
    assert edge.session.paused == set()
