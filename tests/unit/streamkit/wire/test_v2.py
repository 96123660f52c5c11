"""The greeting, and a channel's life: each rule from the side that has to keep it."""

from collections.abc import Callable

import pytest

from streamkit.errors import (
    BadConnectRequest,
    IncompleteAnswer,
    LocalProtocolError,
    RemoteProtocolError,
)
from streamkit.wire.events import Drained, Ended, Headed, Opened, Received
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import decode_message, encode_message
from streamkit.wire.v2 import V2Mux
from streamkit.wire.v2_message import (
    Hello,
    V2Type,
    decode_hello,
)
from tests.support.messages import messages_of
from tests.unit.streamkit.wire.v2_link import (
    GET,
    HEAD,
    Pair,
    new_cloud,
    new_edge,
    reason,
    reset,
    sent,
)
from tests.unit.streamkit.wire.v2_vectors import Vector, each, message_of

# -- the greeting --------------------------------------------------------------------------------


def test_the_edge_says_hello_first_and_nothing_else_until_it_is_answered() -> None:
    cloud, edge = new_cloud(), new_edge()
    cloud.open(GET)
    assert sent(cloud) == []
    cloud.attach()
    edge.attach()
    assert sent(cloud) == []
    (hello,) = (payload for payload in messages_of(edge))
    assert decode_hello(decode_message(hello).data) == Hello("", 1000, 30.0)
    assert cloud.receive(hello) == []
    answer, opening = messages_of(cloud)
    assert decode_hello(decode_message(answer).data) == Hello("s1", 1000, 30.0, 0, {1: 0})
    edge.receive(answer)
    assert edge.session == "s1"
    assert edge.receive(opening) == [Opened(1, GET)]


def test_each_side_learns_how_long_the_other_keeps_the_session() -> None:
    cloud, edge = new_cloud(), new_edge()
    assert (cloud.peer_resume_timeout, edge.peer_resume_timeout) == (0, 0)
    Pair(cloud, edge)
    assert (cloud.peer_resume_timeout, edge.peer_resume_timeout) == (30, 30)


@each("broken")
def test_what_breaks_the_rules_is_refused(vector: Vector) -> None:
    *fine, last = (message_of(message) for message in vector["messages"])
    side: V2Mux
    if vector["to"] == "cloud":
        side = cloud = new_cloud("5e551011")
        cloud.open(GET)
    else:
        side = new_edge()
    side.attach()
    for payload in fine:
        sent(side)
        side.receive(payload)
    sent(side)
    with pytest.raises(RemoteProtocolError) as raised:
        side.receive(last)
    assert str(raised.value) == vector["error"]


@pytest.mark.parametrize("to", ["cloud", "edge"])
def test_data_beyond_the_window_is_refused(to: str) -> None:
    pair = Pair()
    channel_id = pair.opened()
    side = pair.cloud if to == "cloud" else pair.edge
    for size in (999, 1):
        side.receive(encode_message(channel_id, V2Type.DATA, bytes(size)))
    with pytest.raises(RemoteProtocolError, match="beyond the window"):
        side.receive(encode_message(channel_id, V2Type.DATA, b"x"))


# -- channels ------------------------------------------------------------------------------------


def test_an_exchange_from_open_to_the_last_acknowledgement() -> None:
    pair = Pair()
    channel_id = pair.cloud.open(GET)
    pair.cloud.send_data(channel_id, b"question")
    pair.cloud.send_end(channel_id)
    pair.settle()
    pair.edge.consumed(channel_id, 8)
    pair.edge.send_head(channel_id, HEAD)
    pair.edge.send_data(channel_id, b"answer")
    pair.edge.send_end(channel_id)
    pair.settle()
    assert pair.seen() == (
        [Headed(1, HEAD), Received(1, b"answer"), Ended(1)],
        [Opened(1, GET), Received(1, b"question"), Ended(1)],
    )
    assert list(pair.cloud.channel_ids) == [1]
    pair.cloud.consumed(channel_id, 6)
    pair.settle()
    assert (list(pair.cloud.channel_ids), list(pair.edge.channel_ids)) == ([], [])
    assert pair.cloud.stray_messages + pair.edge.stray_messages <= 1


def test_ids_count_from_one_and_are_never_used_again() -> None:
    pair = Pair()
    for expected in (1, 2, 3):
        assert pair.opened() == expected
        pair.cloud.send_reset(expected, "", "")
        pair.settle()


def test_a_request_that_can_not_be_carried_opens_nothing() -> None:
    cloud = new_cloud()
    with pytest.raises(BadConnectRequest):
        cloud.open(RequestHead("GET", "*"))
    assert list(cloud.channel_ids) == []


def test_an_answer_that_can_not_be_carried_leaves_the_channel_as_it_was() -> None:
    pair = Pair()
    channel_id = pair.opened(headed=False)
    with pytest.raises(IncompleteAnswer):
        pair.edge.send_head(channel_id, ResponseHead(99))
    pair.edge.send_failure(channel_id, "KS3004", "no")
    pair.settle()
    assert pair.seen() == ([reset(1, "KS3004", "no")], [])


@pytest.mark.parametrize(
    "early",
    [
        lambda edge: edge.send_data(1, b"x"),
        lambda edge: edge.send_end(1),
        lambda edge: (edge.send_head(1, HEAD), edge.send_head(1, HEAD)),
    ],
    ids=["data", "end", "two heads"],
)
def test_an_edge_begins_with_its_one_head(early: Callable[[V2Mux], None]) -> None:
    pair = Pair()
    pair.opened(headed=False)
    with pytest.raises(LocalProtocolError):
        early(pair.edge)


def test_late_calls_are_void() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.cloud.send_reset(channel_id, "", "")
    pair.settle()
    for mux in (pair.cloud, pair.edge):
        mux.send_data(channel_id, b"x")
        mux.send_end(channel_id)
        mux.send_failure(channel_id, "", "")
        mux.send_reset(channel_id, "", "")
        mux.consumed(channel_id, 1)
        mux.abandon(channel_id)
        assert mux.backlog(channel_id) == 0
        assert sent(mux) == []
    pair.edge.send_head(channel_id, HEAD)
    assert sent(pair.edge) == []


def test_a_reset_drops_what_is_queued_and_is_told_once() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.cloud.send_data(channel_id, bytes(5000))
    pair.cloud.send_reset(channel_id, "KS3001", "gone")
    pair.cloud.send_reset(channel_id, "KS3001", "gone")
    assert sent(pair.cloud) == [(channel_id, V2Type.RESET, reason("KS3001", "gone"))]


def test_a_channel_that_was_never_told_of_ends_without_a_word() -> None:
    pair = Pair()
    channel_id = pair.cloud.open(GET)
    pair.cloud.send_reset(channel_id, "KS3001", "gone")
    assert sent(pair.cloud) == []


def test_a_reset_and_an_end_may_cross() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_end(channel_id)
    (end,) = messages_of(pair.edge)
    pair.cloud.send_reset(channel_id, "KS3001", "gone")
    assert pair.cloud.receive(end) == []
    pair.settle()
    assert pair.seen() == ([], [reset(channel_id, "KS3001", "gone")])


def test_two_resets_may_cross() -> None:
    pair = Pair()
    channel_id = pair.opened()
    for mux in (pair.cloud, pair.edge):
        mux.send_reset(channel_id, "KS3001", "gone")
    pair.settle()
    assert pair.seen() == ([], [])


def test_a_failure_comes_behind_what_was_written() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_data(channel_id, b"so far")
    pair.edge.send_failure(channel_id, "KS5004", "the disk is gone")
    pair.settle()
    assert pair.seen()[0] == [
        Received(channel_id, b"so far"),
        reset(channel_id, "KS5004", "the disk is gone"),
    ]
    assert (list(pair.cloud.channel_ids), list(pair.edge.channel_ids)) == ([], [])


def test_a_failure_waits_for_the_window_like_what_it_stands_behind() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_data(channel_id, bytes(1500))
    pair.edge.send_failure(channel_id, "KS5004", "the disk is gone")
    pair.settle()
    assert pair.seen()[0] == [Received(channel_id, bytes(1000))]
    pair.cloud.consumed(channel_id, 1000)
    pair.settle()
    assert pair.seen()[0] == [
        Received(channel_id, bytes(500)),
        reset(channel_id, "KS5004", "the disk is gone"),
    ]


def test_an_end_that_is_queued_stays_the_truth() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_data(channel_id, b"all")
    pair.edge.send_end(channel_id)
    pair.edge.send_failure(channel_id, "KS5004", "too late")
    pair.settle()
    assert pair.seen()[0] == [Received(channel_id, b"all"), Ended(channel_id)]


def test_an_empty_piece_of_data_is_nothing() -> None:
    pair = Pair()
    channel_id = pair.opened()
    assert pair.edge.receive(encode_message(channel_id, V2Type.DATA)) == []
    pair.edge.send_data(channel_id, b"")
    assert sent(pair.edge) == []


@pytest.mark.parametrize("comes", ["before", "behind"])
def test_what_nobody_reads_is_dropped_and_acknowledged(comes: str) -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_end(channel_id)
    pair.settle()
    pair.seen()
    if comes == "behind":
        pair.edge.abandon(channel_id)
    pair.cloud.send_data(channel_id, bytes(1000))
    pair.settle()
    pair.edge.abandon(channel_id)
    pair.edge.abandon(channel_id)
    pair.edge.consumed(channel_id, 1000)
    pair.cloud.send_data(channel_id, bytes(3000))
    pair.cloud.send_end(channel_id)
    pair.settle()
    received = [event for event in pair.seen()[1] if isinstance(event, Received)]
    assert received == ([Received(channel_id, bytes(1000))] if comes == "before" else [])
    assert (list(pair.cloud.channel_ids), list(pair.edge.channel_ids)) == ([], [])


def test_messages_for_unknown_channels_are_counted_and_cost_nothing() -> None:
    pair = Pair()
    for mux in (pair.cloud, pair.edge):
        for channel_id in range(1000, 2000):
            for kind in (V2Type.DATA, V2Type.END, V2Type.RESET, V2Type.WINDOW):
                assert mux.receive(encode_message(channel_id, kind, b"")) == []
        assert mux.stray_messages == 4000
        assert (list(mux.channel_ids), sent(mux)) == ([], [])
    assert pair.cloud.receive(encode_message(77, V2Type.HEAD, b'{"status":200}')) == []


def test_a_drain_is_passed_on() -> None:
    pair = Pair()
    pair.cloud.send_drain("the cloud service is about to stop")
    pair.settle()
    assert pair.seen()[1] == [Drained("the cloud service is about to stop")]
    pair.lose()
    pair.cloud.send_drain("again")
    assert sent(pair.cloud) == []
