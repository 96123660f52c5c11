from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import MalformedMessage
from streamkit.wire.message import MessageType, decode_message, encode_header, encode_message
from tests.unit.streamkit.wire.vectors import V1, data_of, each

UINT64 = st.integers(0, (1 << 64) - 1)


@each("messages")
def test_golden_messages(vector: dict[str, Any]) -> None:
    header, data = bytes.fromhex(vector["header"]), data_of(vector)
    assert encode_header(vector["id"], vector["type"]) == header
    assert encode_message(vector["id"], vector["type"], data) == header + data
    message = decode_message(header + data)
    assert (message.channel_id, message.type, bytes(message.data)) == (
        vector["id"],
        vector["type"],
        data,
    )


@each("tolerated")
def test_unusual_messages_are_taken(vector: dict[str, Any]) -> None:
    message = decode_message(bytes.fromhex(vector["header"]) + data_of(vector))
    assert (message.channel_id, message.type) == (vector["id"], vector["type"])
    assert bytes(message.data) == data_of(vector)


@each("malformed")
def test_malformed_messages_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage) as raised:
        decode_message(data_of(vector))
    assert str(raised.value) == vector["error"]


def test_the_vectors_cover_every_type_in_every_direction() -> None:
    covered = {(way, vector["type"]) for vector in V1["messages"] for way in vector["directions"]}
    to_edge = {("cloud-to-edge", int(kind)) for kind in MessageType}
    assert covered == to_edge | {("edge-to-cloud", 3), ("edge-to-cloud", 4)}


@given(UINT64, UINT64, st.binary())
def test_what_is_encoded_is_decoded(channel_id: int, message_type: int, data: bytes) -> None:
    message = decode_message(encode_message(channel_id, message_type, data))
    assert (message.channel_id, message.type) == (channel_id, message_type)
    assert bytes(message.data) == data


@given(st.binary(max_size=24))
def test_any_bytes_are_a_message_or_refused(payload: bytes) -> None:
    try:
        message = decode_message(payload)
    except MalformedMessage:
        return
    assert payload.endswith(bytes(message.data))
    assert len(message.data) <= len(payload) - 2
