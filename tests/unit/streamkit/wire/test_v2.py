"""The protocol's rules, each from the side that has to keep it."""

import json
from collections.abc import Callable, Iterator

import pytest

from streamkit.errors import (
    BadConnectRequest,
    IncompleteAnswer,
    LocalProtocolError,
    RemoteProtocolError,
    TunnelClosed,
)
from streamkit.wire.events import Drained, Ended, Headed, Opened, Received, WasReset
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import decode_message, encode_message
from streamkit.wire.v2 import MESSAGE_SIZE, V2Mux, V2Settings
from streamkit.wire.v2_message import (
    MAX_BATCH,
    MAX_BATCHED,
    Hello,
    V2Type,
    decode_hello,
    encode_batch,
    encode_hello,
    encode_window,
)
from tests.support.messages import messages_of
from tests.unit.streamkit.wire.v2_link import (
    GET,
    HEAD,
    SETTINGS,
    LongLink,
    Pair,
    new_cloud,
    new_edge,
    parts_of,
    sent,
    taken_apart,
)
from tests.unit.streamkit.wire.v2_vectors import Vector, each, message_of

MBIT = 1e6 / 8


def reset(channel_id: int, code: str, sentence: str) -> WasReset:
    return WasReset(channel_id, code, sentence)


def reason(code: str, sentence: str) -> bytes:
    return json.dumps({"code": code, "sentence": sentence}, separators=(",", ":")).encode()


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


# -- the order of sending ------------------------------------------------------------------------


def test_control_goes_first_and_data_takes_turns() -> None:
    settings = V2Settings(window=10 * MESSAGE_SIZE, max_window=10 * MESSAGE_SIZE)
    link = LongLink(rate=1e12, delay=0, settings=settings)
    for _ in range(2):
        link.step()
    ids = [link.cloud.open(GET) for _ in range(3)]
    for channel_id in ids:
        link.cloud.send_data(channel_id, bytes(2 * MESSAGE_SIZE))
    link.cloud.send_drain("x")
    order = [(channel_id, kind) for channel_id, kind, _ in sent(link.cloud)]
    assert order == [
        (0, V2Type.DRAIN),
        *((channel_id, V2Type.OPEN) for channel_id in ids),
        *((channel_id, V2Type.DATA) for channel_id in ids),
        *((channel_id, V2Type.DATA) for channel_id in ids),
    ]


def test_a_stalled_reader_stops_its_own_channel_alone() -> None:
    pair = Pair()
    stalled, other = pair.opened(), pair.opened()
    pair.edge.send_data(stalled, bytes(5000))
    received = 0
    for _ in range(20):
        pair.edge.send_data(other, bytes(1000))
        pair.settle()
        for event in pair.seen()[0]:
            if isinstance(event, Received) and event.channel_id == other:
                received += len(event.data)
                pair.cloud.consumed(other, len(event.data))
        pair.settle()
    assert received == 20_000
    assert pair.edge.backlog(stalled) == 4000
    assert pair.edge.backlog(other) == 0


# -- windows over a long link --------------------------------------------------------------------


def download(link: LongLink, seconds: float, *, consumes: Callable[[int], bool]) -> Iterator[float]:
    """Bytes that arrive per second, of an edge that always has more to send."""
    channel_id = link.cloud.open(GET)
    received, second = 0, 0
    is_headed = False
    while link.now < seconds and (events := link.step()) is not None:
        if is_headed and link.edge.backlog(channel_id) < 4 * MESSAGE_SIZE:
            link.edge.send_data(channel_id, bytes(4 * MESSAGE_SIZE))
        for event in events:
            if isinstance(event, Opened):
                link.edge.send_head(channel_id, HEAD)
                is_headed = True
            elif isinstance(event, Received):
                received += len(event.data)
                if consumes(len(event.data)):
                    link.cloud.consumed(channel_id, len(event.data))
        while second + 1 <= link.now:
            yield received
            received, second = 0, second + 1


def window_of(link: LongLink) -> int:
    (channel,) = link.cloud._channels.values()
    return channel.receiving.window


def test_the_window_grows_until_it_carries_a_long_fast_link() -> None:
    link = LongLink(rate=100 * MBIT, delay=0.1, settings=V2Settings())
    per_second = list(download(link, 8, consumes=lambda size: True))
    # 512 KiB in 200 ms would be a fifth of the rate.
    assert per_second[0] < 0.5 * 100 * MBIT
    assert min(per_second[-3:]) > 0.95 * 100 * MBIT
    assert 100 * MBIT * 0.2 < window_of(link) <= V2Settings().max_window


def test_the_window_stays_where_it_is_enough() -> None:
    link = LongLink(rate=100 * MBIT, delay=0.001, settings=V2Settings())
    per_second = list(download(link, 3, consumes=lambda size: True))
    assert per_second[-1] > 0.95 * 100 * MBIT
    assert window_of(link) == V2Settings().window


def test_a_reader_that_never_reads_gets_one_window() -> None:
    link = LongLink(rate=100 * MBIT, delay=0.1, settings=V2Settings())
    assert sum(download(link, 60, consumes=lambda size: False)) <= V2Settings().window
    (channel,) = link.cloud._channels.values()
    assert channel.receiving.unconsumed == channel.receiving.window == V2Settings().window
    assert list(link.edge.channel_ids) == [1]


# -- a lost tunnel -------------------------------------------------------------------------------


def test_what_was_lost_is_sent_again_and_nothing_else() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_data(channel_id, b"first,")
    pair.settle()
    pair.edge.send_data(channel_id, b"second,")
    pair.lose()
    pair.edge.send_data(channel_id, b"third")
    pair.edge.send_end(channel_id)
    pair.connect()
    events = pair.seen()[0]
    assert b"".join(e.data for e in events if isinstance(e, Received)) == b"first,second,third"
    assert events[-1] == Ended(channel_id)


def test_a_lost_open_and_a_lost_head_are_sent_again() -> None:
    pair = Pair()
    channel_id = pair.cloud.open(GET)
    pair.lose()
    pair.connect()
    pair.edge.send_head(channel_id, HEAD)
    pair.lose()
    pair.connect()
    assert pair.seen() == ([Headed(channel_id, HEAD)], [Opened(channel_id, GET)])


def test_a_lost_failure_is_sent_again() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_data(channel_id, b"so far")
    pair.edge.send_failure(channel_id, "KS5004", "the disk is gone")
    pair.lose()
    pair.connect()
    assert pair.seen()[0] == [
        Received(channel_id, b"so far"),
        reset(channel_id, "KS5004", "the disk is gone"),
    ]
    assert list(pair.edge.channel_ids) == []


def test_a_failure_whose_answer_is_lost_leaves_nothing_behind() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_failure(channel_id, "KS5004", "the disk is gone")
    for payload in messages_of(pair.edge):
        pair.cloud.receive(payload)
    pair.lose()
    assert list(pair.edge.channel_ids) == [channel_id]
    pair.connect()
    assert (list(pair.cloud.channel_ids), list(pair.edge.channel_ids)) == ([], [])


def test_a_lost_last_acknowledgement_hurts_nobody() -> None:
    pair = Pair()
    channel_id = pair.opened()
    for mux in (pair.cloud, pair.edge):
        mux.send_end(channel_id)
    for payload in messages_of(pair.edge):
        pair.cloud.receive(payload)
    for payload in messages_of(pair.cloud):
        pair.edge.receive(payload)
    assert list(pair.edge.channel_ids) == []
    pair.lose()
    assert list(pair.cloud.channel_ids) == [channel_id]
    pair.seen()
    pair.connect()
    assert pair.seen() == ([], [])
    assert list(pair.cloud.channel_ids) == []


GAVE_UP = "the peer gave the request up while the tunnel was away"


def test_who_gives_up_while_the_tunnel_is_away_is_missed_by_the_other() -> None:
    pair = Pair()
    by_cloud, by_edge, other = pair.opened(), pair.opened(headed=False), pair.opened()
    pair.lose()
    pair.cloud.send_reset(by_cloud, "KS3001", "gone")
    pair.edge.send_failure(by_edge, "KS5001", "no runtime")
    pair.connect()
    assert pair.seen() == (
        [reset(by_edge, TunnelClosed.code, GAVE_UP)],
        [reset(by_cloud, TunnelClosed.code, GAVE_UP)],
    )
    assert list(pair.cloud.channel_ids) == list(pair.edge.channel_ids) == [other]


def test_an_edge_may_give_up_while_it_waits_for_the_answer_to_its_hello() -> None:
    pair = Pair()
    channel_id = pair.opened(headed=False)
    pair.lose()
    for mux in (pair.cloud, pair.edge):
        mux.attach()
    (hello,) = messages_of(pair.edge)
    pair.edge.send_failure(channel_id, "KS5001", "no runtime")
    pair.cloud.receive(hello)
    pair.settle()
    sentence = "the edge gave the request up while the tunnel was away"
    assert pair.seen() == ([reset(channel_id, TunnelClosed.code, sentence)], [])
    assert (list(pair.cloud.channel_ids), list(pair.edge.channel_ids)) == ([], [])


def test_a_second_cut_in_the_middle_of_the_greeting() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_data(channel_id, b"abc")
    pair.cloud.send_data(channel_id, b"def")
    pair.lose()
    for mux in (pair.cloud, pair.edge):
        mux.attach()
    for payload in messages_of(pair.edge):
        pair.cloud.receive(payload)
    pair.lose()
    pair.connect()
    assert pair.seen() == ([Received(channel_id, b"abc")], [Received(channel_id, b"def")])


def test_what_was_consumed_meanwhile_is_told() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.edge.send_data(channel_id, bytes(1500))
    pair.settle()
    pair.lose()
    pair.cloud.consumed(channel_id, 1000)
    pair.connect()
    assert Received(channel_id, bytes(500)) in pair.seen()[0]


def test_ids_go_on_after_a_resumption() -> None:
    pair = Pair()
    pair.opened()
    pair.lose()
    lost = pair.cloud.open(GET)
    pair.connect()
    assert [event.channel_id for event in pair.seen()[1] if isinstance(event, Opened)] == [lost]
    assert pair.opened() == lost + 1


def test_a_new_cloud_ends_what_the_old_one_asked_for() -> None:
    pair = Pair()
    channel_id = pair.opened()
    finished = pair.opened()
    pair.edge.send_end(finished)
    pair.cloud.send_end(finished)
    for payload in messages_of(pair.cloud):
        pair.edge.receive(payload)
    again = Pair(new_cloud("s2"), pair.edge)
    assert again.seen() == (
        [],
        [reset(channel_id, TunnelClosed.code, "the cloud began a new session")],
    )
    assert again.edge.session == "s2"
    assert again.opened() == 1


def test_a_new_edge_is_not_asked_again_for_what_the_old_one_may_have_done() -> None:
    pair = Pair()
    asked = pair.opened()
    maybe_asked = pair.cloud.open(GET)
    pair.lose()
    never_asked = pair.cloud.open(GET)
    pair.cloud.send_data(never_asked, bytes(1500))
    again = Pair(pair.cloud, new_edge())
    at_cloud, at_edge = again.seen()
    sentence = "the edge agent began anew"
    assert at_cloud == [reset(key, TunnelClosed.code, sentence) for key in (asked, maybe_asked)]
    assert at_edge == [Opened(never_asked, GET), Received(never_asked, bytes(1000))]
    assert again.edge.session == "s1"
    assert list(again.cloud.channel_ids) == list(again.edge.channel_ids) == [never_asked]


def test_a_new_edge_with_a_smaller_window_is_not_flooded() -> None:
    cloud = new_cloud()
    Pair(cloud).lose()
    channel_id = cloud.open(GET)
    cloud.send_data(channel_id, bytes(1500))
    cloud.attach()
    cloud.receive(encode_hello(Hello("", 10, 30)))
    sizes = [len(data) for _, kind, data in sent(cloud) if kind == V2Type.DATA]
    assert sizes == [10]


def test_a_peer_that_grants_everything_is_not_given_everything() -> None:
    pair = Pair()
    channel_id = pair.opened()
    pair.cloud.receive(encode_window(channel_id, 1, 1 << 63))
    pair.cloud.send_data(channel_id, bytes(100 * SETTINGS.max_window))
    sizes = [len(data) for _, kind, data in sent(pair.cloud) if kind == V2Type.DATA]
    assert sum(sizes) == SETTINGS.max_window


# -- batches -------------------------------------------------------------------------------------


def test_small_messages_that_follow_each_other_leave_as_one() -> None:
    pair = Pair()
    ids = [pair.opened() for _ in range(3)]
    pair.settle()
    for channel_id in ids:
        pair.cloud.send_data(channel_id, b"x")
    (payload,) = messages_of(pair.cloud)
    assert [taken_apart(part) for part in parts_of(payload)] == [
        (channel_id, V2Type.DATA, b"x") for channel_id in ids
    ]
    events = pair.edge.receive(payload)
    assert events == [Received(channel_id, b"x") for channel_id in ids]


def test_a_batch_has_an_end() -> None:
    pair = Pair()
    ids = [pair.opened() for _ in range(100)]
    pair.settle()
    for channel_id in ids:
        pair.cloud.send_data(channel_id, bytes(900))
    sizes = [len(payload) for payload in messages_of(pair.cloud)]
    assert max(sizes) < MAX_BATCH + MAX_BATCHED
    assert len(sizes) > 1


def test_large_messages_leave_by_themselves() -> None:
    pair = Pair()
    small, large = pair.opened(), pair.opened()
    pair.settle()
    pair.cloud.send_data(small, b"x")
    pair.cloud.send_data(large, bytes(MAX_BATCHED))
    payloads = list(messages_of(pair.cloud))
    kinds = {taken_apart(payload)[:2] for payload in payloads}
    assert kinds >= {(small, V2Type.DATA), (large, V2Type.DATA)}


@pytest.mark.parametrize("part", ["00 10 7b 7d", "00 18"])
def test_what_has_no_place_in_a_batch(part: str) -> None:
    pair = Pair()
    pair.settle()
    with pytest.raises(RemoteProtocolError):
        pair.edge.receive(encode_batch([bytes.fromhex(part)]))
