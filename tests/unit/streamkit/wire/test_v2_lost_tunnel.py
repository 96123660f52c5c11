"""What both sides make of a tunnel that was lost, and of the next."""

from streamkit.errors import (
    TunnelClosed,
)
from streamkit.wire.events import Ended, Headed, Opened, Received
from streamkit.wire.v2_message import (
    Hello,
    V2Type,
    encode_hello,
    encode_window,
)
from tests.support.messages import messages_of
from tests.unit.streamkit.wire.v2_link import (
    GET,
    HEAD,
    SETTINGS,
    Pair,
    new_cloud,
    new_edge,
    reset,
    sent,
)


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
