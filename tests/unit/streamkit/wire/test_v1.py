"""The protocol's rules, each from the side that has to keep it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import (
    BadConnectRequest,
    ChannelOverflow,
    HandshakeRejected,
    MalformedMessage,
)
from streamkit.wire.events import Ended, Opened, Received, Refused, WasReset
from streamkit.wire.exchange import RequestHead
from streamkit.wire.message import MAX_DATA, MessageType, decode_message, encode_message
from streamkit.wire.outbox import SLICE
from streamkit.wire.v1 import V1Cloud, V1Edge, V1Mux
from tests.support.messages import messages_of
from tests.unit.streamkit.wire.vectors import data_of, each, request_of

LIMIT = 1000
REQUEST = RequestHead("GET", "/pods")
DATA, REMOVE = MessageType.DATA, MessageType.REMOVE_CONNECT
EXEC, LOGS = MessageType.EXEC_CONNECT, MessageType.LOGS_CONNECT


def sent(mux: V1Mux) -> list[tuple[int, int, bytes]]:
    """All that the mux has to send now."""
    messages = []
    for payload in messages_of(mux):
        message = decode_message(payload)
        messages.append((message.channel_id, message.type, bytes(message.data)))
    return messages


def connect(channel_id: int, *, named: int | None = None, path: str = "/pods") -> bytes:
    fields = {"MessID": channel_id if named is None else named, "url": {"Path": path}}
    return json.dumps(fields).encode()


def opened_edge(*channel_ids: int, kind: MessageType = EXEC) -> V1Edge:
    edge = V1Edge(buffer_limit=LIMIT)
    for channel_id in channel_ids:
        edge.receive(encode_message(channel_id, kind, connect(channel_id)))
    return edge


# -- the cloud -----------------------------------------------------------------------------------


def test_cloud_opens_every_channel_as_exec_with_a_new_id() -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    assert [cloud.open(REQUEST), cloud.open(REQUEST)] == [1, 2]
    messages = sent(cloud)
    assert [(channel_id, kind) for channel_id, kind, _ in messages] == [(1, EXEC), (2, EXEC)]
    assert [json.loads(data)["MessID"] for _, _, data in messages] == [1, 2]
    assert list(cloud.channel_ids) == [1, 2]


def test_cloud_sends_no_data_before_the_edges_first() -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    channel_id = cloud.open(REQUEST)
    sent(cloud)
    cloud.send_data(channel_id, b"early")
    assert sent(cloud) == []
    assert cloud.backlog(channel_id) == 5
    cloud.receive(encode_message(channel_id, DATA, b"HTTP/1.1 101 \r\n\r\n"))
    assert sent(cloud) == [(channel_id, DATA, b"early")]


def test_cloud_sends_one_remove_and_nothing_behind_it() -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    channel_id = cloud.open(REQUEST)
    cloud.receive(encode_message(channel_id, DATA, b"x"))
    sent(cloud)
    cloud.send_data(channel_id, b"never leaves")
    cloud.remove(channel_id)
    cloud.remove(channel_id)
    cloud.send_data(channel_id, b"nor this")
    assert sent(cloud) == [(channel_id, REMOVE, b"")]
    assert cloud.receive(encode_message(channel_id, DATA, b"y")) == []
    assert cloud.receive(encode_message(channel_id, REMOVE)) == []
    assert cloud.stray_messages == 2
    assert (sent(cloud), list(cloud.channel_ids)) == ([], [])


def test_cloud_answers_an_edges_remove_with_silence() -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    channel_id = cloud.open(REQUEST)
    sent(cloud)
    assert cloud.receive(encode_message(channel_id, DATA, b"x")) == [Received(channel_id, b"x")]
    assert cloud.receive(encode_message(channel_id, REMOVE)) == [Ended(channel_id)]
    cloud.remove(channel_id)
    assert sent(cloud) == []


@pytest.mark.parametrize("kind", [*MessageType, 7, 1 << 60])
def test_cloud_ignores_unknown_ids_whatever_the_type(kind: int) -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    assert cloud.receive(encode_message(99, kind, b"x")) == []
    assert cloud.stray_messages == 1
    assert sent(cloud) == []


@pytest.mark.parametrize("kind", [EXEC, MessageType.CLOSE_CONNECT, 7])
def test_cloud_ignores_types_that_no_edge_may_send(kind: int) -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    channel_id = cloud.open(REQUEST)
    assert cloud.receive(encode_message(channel_id, kind, b"x")) == []
    assert list(cloud.channel_ids) == [channel_id]


def test_cloud_refuses_what_can_not_be_carried() -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    with pytest.raises(BadConnectRequest, match="invalid escape"):
        cloud.open(RequestHead("GET", "/%zz"))
    with pytest.raises(BadConnectRequest, match="too large"):
        cloud.open(RequestHead("GET", "/", (("X", "x" * MAX_DATA),)))
    assert (sent(cloud), list(cloud.channel_ids)) == ([], [])


# -- the edge ------------------------------------------------------------------------------------


@each("connects", "decode")
def test_edge_opens_every_kind(vector: dict[str, Any]) -> None:
    edge = V1Edge(buffer_limit=LIMIT)
    events = edge.receive(encode_message(vector["id"], vector["type"], data_of(vector)))
    body_only = vector["type"] in (LOGS, MessageType.METRIC_CONNECT)
    assert events == [Opened(vector["id"], request_of(vector), body_only=body_only)]


@each("refused")
def test_edge_answers_unusable_json_with_one_remove(vector: dict[str, Any]) -> None:
    edge = V1Edge(buffer_limit=LIMIT)
    events = edge.receive(encode_message(7, EXEC, data_of(vector)))
    assert events == [Refused(7, vector["error"])]
    assert sent(edge) == [(7, REMOVE, b"")]
    assert list(edge.channel_ids) == []


def test_edge_refuses_a_message_whose_two_ids_differ() -> None:
    edge = V1Edge(buffer_limit=LIMIT)
    events = edge.receive(encode_message(7, EXEC, connect(7, named=8)))
    assert events == [Refused(7, "a connect message's two channel ids differ")]
    assert sent(edge) == [(7, REMOVE, b"")]


def test_edge_sends_one_remove_behind_its_data() -> None:
    edge = opened_edge(1)
    edge.send_data(1, bytes(SLICE + 1))
    edge.send_end(1)
    edge.send_end(1)
    assert sent(edge) == [(1, DATA, bytes(SLICE)), (1, DATA, b"\0"), (1, REMOVE, b"")]
    edge.send_data(1, b"late")
    edge.send_end(1)
    assert sent(edge) == []


def test_edge_answers_the_clouds_remove_once_and_drops_what_is_queued() -> None:
    edge = opened_edge(1)
    edge.send_data(1, b"unwanted")
    assert edge.receive(encode_message(1, REMOVE)) == [WasReset(1, "", "the caller went away")]
    for _ in range(10_000):
        assert edge.receive(encode_message(1, REMOVE)) == []
    assert edge.receive(encode_message(1, DATA, b"late")) == []
    assert edge.stray_messages == 10_001
    assert sent(edge) == [(1, REMOVE, b"")]


def test_edge_takes_data_and_drops_that_of_unknown_ids() -> None:
    edge = opened_edge(1)
    assert edge.receive(encode_message(1, DATA, b"x")) == [Received(1, b"x")]
    assert edge.receive(encode_message(2, DATA, b"x")) == []
    assert edge.receive(encode_message(1, 7)) == []
    assert (edge.stray_messages, sent(edge)) == (2, [])


def test_edge_counts_no_data_that_comes_behind_its_own_end() -> None:
    edge = opened_edge(1)
    edge.send_data(1, b"last words")
    edge.send_end(1)
    for _ in range(10):
        assert edge.receive(encode_message(1, DATA, bytes(LIMIT))) == []
    assert sent(edge) == [(1, DATA, b"last words"), (1, REMOVE, b"")]


def test_edge_hangs_up_on_close_connect() -> None:
    edge = opened_edge(1)
    words = "failed to Update KubeletEndpoint Port"
    with pytest.raises(HandshakeRejected, match=f"^the cloud closed the tunnel: {words}$"):
        edge.receive(b"\x00\x05" + words.encode())
    with pytest.raises(HandshakeRejected, match=r": \ufffdx{199}$"):
        edge.receive(b"\x00\x05\xff" + b"x" * 1000)


def test_edge_lets_a_second_connect_replace_the_first() -> None:
    edge = opened_edge(1)
    edge.send_data(1, b"of the first")
    events = edge.receive(encode_message(1, LOGS, connect(1, path="/second")))
    assert events == [
        WasReset(1, "", "the cloud opened the channel anew"),
        Opened(1, RequestHead("GET", "/second"), body_only=True),
    ]
    edge.send_data(1, b"of the second")
    edge.send_end(1)
    assert sent(edge) == [(1, DATA, b"of the second"), (1, REMOVE, b"")]


# -- both ----------------------------------------------------------------------------------------


@each("malformed")
@pytest.mark.parametrize("side", [V1Cloud, V1Edge])
def test_malformed_messages_end_the_tunnel(
    side: type[V1Cloud] | type[V1Edge], vector: dict[str, Any]
) -> None:
    with pytest.raises(MalformedMessage):
        side(buffer_limit=LIMIT).receive(data_of(vector))


def test_a_reader_that_stalls_costs_its_own_channel_only() -> None:
    edge = opened_edge(1, 2)
    assert edge.receive(encode_message(1, DATA, bytes(LIMIT))) == [Received(1, bytes(LIMIT))]
    edge.consumed(1, 10)
    assert edge.receive(encode_message(1, DATA, bytes(10))) == [Received(1, bytes(10))]
    (event,) = edge.receive(encode_message(1, DATA, b"x"))
    assert isinstance(event, WasReset)
    assert (event.channel_id, event.code) == (1, ChannelOverflow.code)
    assert sent(edge) == [(1, REMOVE, b"")]
    assert edge.receive(encode_message(2, DATA, b"x")) == [Received(2, b"x")]
    edge.consumed(1, 5)
    assert list(edge.channel_ids) == [2]


def test_a_buffer_that_is_half_full_is_told_of_until_it_is_down_to_a_quarter() -> None:
    edge = opened_edge(1, 2)
    told = []
    for channel_id, size in ((1, LIMIT // 2), (1, 1), (2, LIMIT // 2 + 1)):
        edge.receive(encode_message(channel_id, DATA, bytes(size)))
        told.append(edge.is_crowded)
    for channel_id, size in ((1, LIMIT // 2 + 1), (2, LIMIT // 4), (2, 1)):
        edge.consumed(channel_id, size)
        told.append(edge.is_crowded)
    assert told == [False, True, True, True, True, False]


@pytest.mark.parametrize(("kind", "data"), [(REMOVE, b""), (DATA, b"x")])
def test_a_channel_that_is_gone_crowds_nobody(kind: MessageType, data: bytes) -> None:
    edge = opened_edge(1)
    edge.receive(encode_message(1, DATA, bytes(LIMIT)))
    was_crowded = edge.is_crowded
    edge.receive(encode_message(1, kind, data))
    assert (was_crowded, edge.is_crowded) == (True, False)


def test_connects_and_removes_overtake_data() -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    bulk = cloud.open(REQUEST)
    cloud.receive(encode_message(bulk, DATA, b"x"))
    sent(cloud)
    cloud.send_data(bulk, bytes(SLICE))
    other = cloud.open(REQUEST)
    cloud.remove(other)
    kinds = [(channel_id, kind) for channel_id, kind, _ in sent(cloud)]
    assert kinds == [(other, EXEC), (other, REMOVE), (bulk, DATA)]


MESSAGES = st.tuples(
    st.integers(0, 3),
    st.sampled_from([*sorted(set(MessageType) - {MessageType.CLOSE_CONNECT}), 7]),
    st.binary(max_size=LIMIT),
)


@given(st.lists(MESSAGES, max_size=40))
def test_edge_sends_at_most_one_remove_per_connect(
    messages: list[tuple[int, int, bytes]],
) -> None:
    edge = V1Edge(buffer_limit=LIMIT)
    connects = dict.fromkeys(range(4), 0)
    for channel_id, kind, data in messages:
        is_connect = kind in (0, 1, 2, 6)
        connects[channel_id] += is_connect
        data = connect(channel_id) if is_connect and len(data) % 2 else data
        edge.receive(encode_message(channel_id, kind, data))
    live = list(edge.channel_ids)
    removed = [channel_id for channel_id, kind, _ in sent(edge) if kind == REMOVE]
    for channel_id, opened in connects.items():
        assert removed.count(channel_id) + (channel_id in live) <= opened


@given(st.lists(MESSAGES, max_size=40), st.sets(st.integers(0, 3)))
def test_cloud_sends_at_most_one_remove_per_channel(
    messages: list[tuple[int, int, bytes]], given_up: set[int]
) -> None:
    cloud = V1Cloud(buffer_limit=LIMIT)
    for _ in range(3):
        cloud.open(REQUEST)
    ended = set()
    for number, (channel_id, kind, data) in enumerate(messages):
        for event in cloud.receive(encode_message(channel_id, kind, data)):
            if isinstance(event, Ended):
                ended.add(channel_id)
        if number in given_up:
            cloud.remove(number)
    seen: set[int] = set()
    for channel_id, kind, _ in sent(cloud):
        assert channel_id not in seen
        if kind == REMOVE:
            seen.add(channel_id)
    assert seen.isdisjoint(ended)
