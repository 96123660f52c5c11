"""v2 sessions, one against the other."""

from collections.abc import Callable
from typing import Any

import pytest

from streamkit.errors import (
    BadConnectRequest,
    ChannelError,
    ChannelReset,
    LocalProtocolError,
    LogUnavailable,
    RemoteProtocolError,
    StreamError,
    TunnelClosed,
)
from streamkit.session.channel import HIGH_WATER, LOW_WATER
from streamkit.session.v2 import V2CloudSession, V2EdgeSession, V2Session
from streamkit.wire.exchange import RequestHead
from streamkit.wire.message import encode_message
from streamkit.wire.v2 import V2Settings
from streamkit.wire.v2_message import V2Type
from tests.support.handler import BrokenHandler, RecordingHandler
from tests.unit.streamkit.session.v2_pair import GET, GONE, HEAD, LOST, SETTINGS, UPGRADE, Pair


def test_an_exchange_in_both_layers() -> None:
    pair = Pair()
    channel, handler = pair.open()
    served, answering = pair.served[0]
    channel.write(b"question")
    channel.end()
    served.send_head(HEAD)
    served.write(b"answer")
    served.end()
    pair.settle()
    assert served.request == UPGRADE
    assert (bytes(answering.body), answering.ends, answering.errors) == (b"question", 1, [])
    assert (handler.heads, bytes(handler.body), handler.ends) == ([HEAD], b"answer", 1)
    assert pair.is_empty


def test_a_plain_request_has_ended_when_it_is_opened() -> None:
    pair = Pair()
    pair.open(GET)
    assert pair.served[0][1].ends == 1
    pair.open(UPGRADE)
    assert pair.served[1][1].ends == 0


@pytest.mark.parametrize("size", [0, 600])
def test_an_answer_whose_rest_nobody_takes_leaves_nothing_behind(size: int) -> None:
    # The caller's connection was full when the answer ended, and then it went away.
    pair = Pair()
    channel, handler = pair.open(GET, consumes=False)
    served, _ = pair.served[0]
    served.send_head(HEAD)
    served.write(bytes(size))
    served.end()
    pair.settle()
    assert (len(handler.body), handler.ends) == (size, 1)
    channel.reset(GONE)
    pair.settle()
    assert pair.is_empty


def test_an_edge_that_has_answered_reads_no_more_and_lets_it_flow() -> None:
    pair = Pair(edge_consumes=False)
    channel, handler = pair.open()
    served, answering = pair.served[0]
    channel.write(bytes(900))
    served.send_head(HEAD)
    served.end()
    pair.settle()
    served.reset(ChannelReset("the request is answered"))
    channel.write(bytes(5000))
    pair.settle()
    assert (len(answering.body), handler.ends) == (900, 1)
    channel.end()
    pair.settle()
    assert pair.is_empty
    assert (handler.errors, answering.errors, answering.ends) == ([], [], 0)


def test_a_caller_that_leaves_resets_the_channel() -> None:
    pair = Pair()
    channel, handler = pair.open()
    channel.reset(GONE)
    channel.reset(GONE)
    channel.write(b"late")
    channel.end()
    pair.settle()
    (error,) = pair.served[0][1].errors
    assert isinstance(error, ChannelReset)
    assert str(error) == "the caller went away"
    assert handler.errors == []
    assert pair.is_empty


def test_an_edge_that_fails_delivers_what_it_wrote_first() -> None:
    pair = Pair()
    _, handler = pair.open()
    served, answering = pair.served[0]
    served.send_head(HEAD)
    served.write(b"so far")
    served.reset(LogUnavailable("the disk is gone"))
    pair.settle()
    (error,) = handler.errors
    assert isinstance(error, LogUnavailable)
    assert (bytes(handler.body), handler.ends, answering.errors) == (b"so far", 0, [])
    assert pair.is_empty


def test_an_edge_that_fails_before_its_head_says_why() -> None:
    pair = Pair()
    _, handler = pair.open()
    pair.served[0][0].reset(LogUnavailable("the disk is gone"))
    pair.settle()
    (error,) = handler.errors
    assert (type(error), str(error)) == (LogUnavailable, "the disk is gone")
    assert pair.is_empty


def test_an_error_that_is_not_known_here_is_the_channels() -> None:
    pair = Pair()
    channel, handler = pair.open()
    reset = encode_message(channel.channel_id, V2Type.RESET, b'{"code":"KS9999","sentence":"x"}')
    pair.cloud.message_received(reset)
    assert [type(error) for error in handler.errors] == [ChannelError]


def test_a_request_that_can_not_be_carried_opens_nothing() -> None:
    pair = Pair()
    with pytest.raises(BadConnectRequest):
        pair.cloud.open(RequestHead("GET", "http://x/"), RecordingHandler())
    assert pair.is_empty


def test_heads_are_the_edges_to_send() -> None:
    channel, _ = Pair().open()
    with pytest.raises(LocalProtocolError):
        channel.send_head(HEAD)


@pytest.mark.parametrize("side", ["cloud", "edge"])
def test_writing_pauses_above_the_high_mark_and_resumes_at_the_low_one(side: str) -> None:
    pair = Pair(V2Settings(window=1 << 20))
    channel, handler = pair.open()
    if side == "edge":
        channel, handler = pair.served[0]
        channel.send_head(HEAD)
        pair.settle()
    session: V2Session[Any] = pair.cloud if side == "cloud" else pair.edge
    seen = []
    for size in (HIGH_WATER, 1):
        channel.write(bytes(size))
        seen.append(handler.is_paused)
    assert seen == [False, True]
    while session.next_message() is not None:
        is_short = session.mux.backlog(channel.channel_id) <= LOW_WATER
        assert handler.is_paused is not is_short
    assert not session.paused


def test_a_lost_channel_waits_for_nothing() -> None:
    pair = Pair()
    channel, handler = pair.open()
    channel.write(bytes(HIGH_WATER + 1))
    assert handler.is_paused
    pair.served[0][0].reset(LogUnavailable("the disk is gone"))
    pair.settle()
    assert len(handler.errors) == 1
    assert pair.is_empty


def test_channels_wait_while_the_tunnel_is_away() -> None:
    pair = Pair()
    channel, handler = pair.open()
    served, answering = pair.served[0]
    served.send_head(HEAD)
    pair.lose()
    channel.write(b"to the edge")
    served.write(b"to the cloud")
    _, later = pair.open()
    assert (handler.heads, later.heads, len(pair.served)) == ([], [], 1)
    pair.connect()
    assert (handler.heads, bytes(handler.body), bytes(answering.body)) == (
        [HEAD],
        b"to the cloud",
        b"to the edge",
    )
    assert len(pair.served) == 2


def test_closing_resets_every_channel_once_and_for_good() -> None:
    pair = Pair()
    _, one = pair.open()
    _, other = pair.open(GET)
    pair.cloud.close(LOST)
    pair.cloud.close(TunnelClosed("again"))
    assert (one.errors, other.errors) == ([LOST], [LOST])
    assert pair.cloud.channel_count == 0
    with pytest.raises(TunnelClosed, match="the link broke"):
        pair.cloud.open(GET, other)


def test_an_edge_adopts_the_sessions_name_and_knows_how_long_it_is_kept() -> None:
    settings = V2Settings(resume_timeout=12.5)
    edge = V2EdgeSession(lambda channel: RecordingHandler(), settings)
    assert (edge.token, edge.peer_resume_timeout, edge.is_greeted) == ("", 0, False)
    pair = Pair(settings)
    assert (pair.edge.token, pair.edge.peer_resume_timeout) == ("s1", 12.5)
    assert [pair.cloud.is_greeted, pair.edge.is_greeted] == [True, True]
    pair.lose()
    assert [pair.cloud.is_greeted, pair.edge.is_greeted] == [False, False]


def test_an_edge_that_begins_anew_ends_what_the_cloud_had_asked() -> None:
    pair = Pair()
    _, handler = pair.open()
    pair.lose()
    pair.edge = V2EdgeSession(pair.accept, SETTINGS)
    pair.connect()
    (error,) = handler.errors
    assert isinstance(error, TunnelClosed)
    _, other = pair.open()
    pair.served[-1][0].send_head(HEAD)
    pair.settle()
    assert (other.heads, len(pair.served)) == ([HEAD], 2)


def test_a_cloud_that_begins_anew_ends_what_the_edge_was_doing() -> None:
    pair = Pair()
    pair.open()
    pair.lose()
    pair.cloud = V2CloudSession("s2", SETTINGS)
    pair.connect()
    (error,) = pair.served[0][1].errors
    assert isinstance(error, TunnelClosed)
    assert pair.edge.token == "s2"
    assert pair.is_empty


def test_late_calls_of_an_older_life_do_not_reach_a_channel_of_the_same_id() -> None:
    pair = Pair(edge_consumes=False)
    older, _ = pair.open()
    older.write(bytes(500))
    pair.lose()
    pair.connect()
    pair.cloud = V2CloudSession("s2", SETTINGS)
    pair.connect()
    newer, _ = pair.open()
    newer.write(b"one, ")
    pair.settle()
    (late, _), (served, handler) = pair.served
    assert late.channel_id == served.channel_id
    late.consumed(500)
    late.reset(ChannelReset("the edge agent ended the request"))
    newer.write(b"two")
    pair.settle()
    assert bytes(handler.body) == b"one, two"
    assert pair.edge.channel_count == 1


def test_a_drain_is_told_to_whoever_wants_to_know() -> None:
    pair = Pair()
    told: list[str] = []
    pair.edge.drained = told.append
    pair.cloud.drain("the cloud service is about to stop")
    pair.settle()
    assert told == ["the cloud service is about to stop"]


@pytest.mark.parametrize("side", ["cloud", "edge"])
def test_a_handler_with_a_bug_costs_its_own_channel(
    side: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair()
    _, other = pair.open()
    broken = BrokenHandler()
    channel = pair.cloud.open(UPGRADE, broken if side == "cloud" else RecordingHandler())
    pair.settle()
    served, _ = pair.served[1]
    if side == "edge":
        served.handler = broken
    served.send_head(HEAD)
    served.write(b"to the cloud")
    channel.write(b"to the edge")
    pair.settle()
    assert [str(error) for error in broken.errors] == ["internal error: ValueError"]
    assert [session.channel_count for session in (pair.cloud, pair.edge)] == [1, 1]
    assert list(pair.cloud.mux.channel_ids) == list(pair.edge.mux.channel_ids) == [1]
    assert other.errors == []
    assert "secret" not in caplog.text


def test_what_breaks_the_rules_is_passed_up() -> None:
    with pytest.raises(RemoteProtocolError):
        Pair().cloud.message_received(b"\x00\x10{}")


def test_output_is_announced() -> None:
    pair = Pair()
    announced: list[str] = []
    pair.cloud.output_ready = lambda: announced.append("ready")
    channel, _ = pair.open(consumes=False)
    served, _ = pair.served[0]
    served.send_head(HEAD)
    served.write(bytes(1000))
    pair.settle()
    announced.clear()
    steps: tuple[Callable[[], object], ...] = (
        lambda: channel.write(b"x"),
        lambda: channel.consumed(1000),
        lambda: channel.end(),
        lambda: channel.reset(GONE),
        lambda: pair.cloud.open(GET, RecordingHandler()),
        lambda: pair.cloud.drain("x"),
    )
    for step in steps:
        step()
        assert announced
        announced.clear()


def test_a_message_that_needs_an_answer_announces_it() -> None:
    pair = Pair()
    _, handler = pair.open(consumes=False)
    served, _ = pair.served[0]
    served.send_head(HEAD)
    served.end()
    announced: list[str] = []
    pair.cloud.output_ready = lambda: announced.append("ready")
    pair.settle()
    assert handler.ends == 1
    assert announced


def test_errors_keep_their_kind_across_the_tunnel() -> None:
    errors: list[StreamError] = [GONE, LogUnavailable("x"), LOST]
    for sent in errors:
        pair = Pair()
        _, handler = pair.open()
        pair.served[0][0].reset(sent)
        pair.settle()
        (received,) = handler.errors
        assert (type(received), str(received)) == (type(sent), str(sent))
