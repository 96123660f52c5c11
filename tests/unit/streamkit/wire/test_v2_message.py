import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import BadConnectRequest, IncompleteAnswer, MalformedMessage
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import decode_message
from streamkit.wire.v2_message import (
    MAX_OPENING,
    MAX_SENTENCE,
    Hello,
    V2Type,
    decode_batch,
    decode_head,
    decode_hello,
    decode_open,
    decode_reason,
    decode_window,
    encode_batch,
    encode_head,
    encode_hello,
    encode_open,
    encode_reason,
    encode_reset,
    encode_window,
    message,
)
from tests.unit.streamkit.wire.v2_vectors import (
    V2,
    Vector,
    answer_of,
    data_of,
    each,
    message_of,
    of_type,
    request_of,
)

SPECIFICATION = Path(__file__).parents[4] / "proto" / "tunnel.md"

UINT64 = st.integers(0, (1 << 64) - 1)
TOKEN = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"))
HEADERS = st.lists(st.tuples(TOKEN, VALUE)).map(tuple)

DECODERS: dict[int, Callable[[bytes | memoryview], Any]] = {
    V2Type.HELLO: decode_hello,
    V2Type.OPEN: decode_open,
    V2Type.HEAD: decode_head,
    V2Type.END: decode_reason,
    V2Type.RESET: decode_reason,
    V2Type.WINDOW: decode_window,
    V2Type.BATCH: lambda data: list(decode_batch(data)),
}


def hello_of(fields: Vector) -> Hello:
    return Hello(
        fields["session"],
        fields["window"],
        fields["resumeTimeout"],
        fields["opened"],
        dict(fields["received"]),
    )


def decode(payload: bytes) -> Any:
    """What a whole message holds."""
    found = decode_message(payload)
    return DECODERS[found.type](found.data)


def encode(vector: Vector) -> bytes:
    if "request" in vector:
        return encode_open(1, request_of(vector["request"]))
    return encode_head(1, answer_of(vector["answer"]))


# -- the vectors ---------------------------------------------------------------------------------


@each("messages")
def test_every_message_has_its_header(vector: Vector) -> None:
    found = decode_message(message_of(vector))
    assert (found.channel_id, found.type) == (vector["id"], vector["type"])
    assert bytes(found.data) == data_of(vector)
    assert message(vector["id"], V2Type(vector["type"]), data_of(vector)) == message_of(vector)


def test_the_vectors_cover_every_type_in_every_direction() -> None:
    covered = {(way, vector["type"]) for vector in V2["messages"] for way in vector["directions"]}
    only = {
        V2Type.OPEN: "cloud-to-edge",
        V2Type.HEAD: "edge-to-cloud",
    }
    assert covered == {
        (way, int(kind))
        for kind in V2Type
        for way in ("cloud-to-edge", "edge-to-cloud")
        if only.get(kind, way) == way
    }


@of_type("messages", V2Type.HELLO)
def test_hello_byte_for_byte(vector: Vector) -> None:
    assert encode_hello(hello_of(vector["holds"])) == message_of(vector)
    assert decode_hello(data_of(vector)) == hello_of(vector["holds"])


@of_type("messages", V2Type.OPEN)
def test_open_byte_for_byte(vector: Vector) -> None:
    assert encode_open(vector["id"], request_of(vector["holds"])) == message_of(vector)
    assert decode_open(data_of(vector)) == request_of(vector["holds"])


@of_type("messages", V2Type.HEAD)
def test_head_byte_for_byte(vector: Vector) -> None:
    assert encode_head(vector["id"], answer_of(vector["holds"])) == message_of(vector)
    assert decode_head(data_of(vector)) == answer_of(vector["holds"])


@of_type("messages", V2Type.RESET)
def test_reset_byte_for_byte(vector: Vector) -> None:
    code, sentence = vector["holds"]["code"], vector["holds"]["sentence"]
    assert encode_reset(vector["id"], code, sentence) == message_of(vector)
    assert decode_reason(data_of(vector)) == (code, sentence)


@of_type("messages", V2Type.END)
def test_end_byte_for_byte(vector: Vector) -> None:
    if holds := vector.get("holds"):
        assert encode_reason(holds["code"], holds["sentence"]) == data_of(vector)
        assert decode_reason(data_of(vector)) == (holds["code"], holds["sentence"])
    else:
        assert data_of(vector) == b""


@of_type("messages", V2Type.WINDOW)
def test_window_byte_for_byte(vector: Vector) -> None:
    consumed, limit = vector["holds"]["consumed"], vector["holds"]["limit"]
    assert encode_window(vector["id"], consumed, limit) == message_of(vector)
    assert decode_window(data_of(vector)) == (consumed, limit)


@of_type("messages", V2Type.BATCH)
def test_batch_byte_for_byte(vector: Vector) -> None:
    holds = [bytes.fromhex(each) for each in vector["holds"]]
    assert encode_batch(holds) == message_of(vector)
    assert list(decode_batch(data_of(vector))) == holds


@each("tolerated")
def test_unusual_messages_are_taken(vector: Vector) -> None:
    holds = vector["holds"]
    expected: dict[int, Callable[[], Any]] = {
        V2Type.HELLO: lambda: hello_of(holds),
        V2Type.OPEN: lambda: request_of(holds),
        V2Type.HEAD: lambda: answer_of(holds),
        V2Type.RESET: lambda: (holds["code"], holds["sentence"]),
        V2Type.WINDOW: lambda: (holds["consumed"], holds["limit"]),
    }
    assert decode_message(message_of(vector)).type == vector["type"]
    assert DECODERS[vector["type"]](data_of(vector)) == expected[vector["type"]]()


@each("malformed")
def test_malformed_messages_are_refused(vector: Vector) -> None:
    with pytest.raises(MalformedMessage) as raised:
        decode(message_of(vector))
    assert str(raised.value) == vector["error"]


@each("uncarriable")
def test_what_the_peer_would_refuse_is_not_sent(vector: Vector) -> None:
    with pytest.raises((BadConnectRequest, IncompleteAnswer)) as raised:
        encode(vector)
    assert str(raised.value) == vector["error"]
    assert isinstance(raised.value, BadConnectRequest) is ("request" in vector)


def test_the_examples_of_the_specification_are_golden() -> None:
    chapter = SPECIFICATION.read_text().partition("\n## v2\n")[2]
    examples = re.findall(r"^    ((?:[0-9a-f]{2} )+[0-9a-f]{2})(?:  (.+))?$", chapter, re.MULTILINE)
    messages = {message_of(vector) for vector in V2["messages"]}
    shown = {bytes.fromhex(header) + text.encode() for header, text in examples}
    assert shown <= messages
    assert {decode_message(payload).type for payload in shown} == set(V2Type)


# -- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"window":' + b"9" * 5000 + b"}"])
def test_json_that_takes_too_much_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="no JSON"):
        decode_hello(data)


def test_a_head_that_is_too_large_costs_its_request_only() -> None:
    headers = (("X", "\xff" * (MAX_OPENING // 6)),)
    with pytest.raises(BadConnectRequest, match="its head is too large"):
        encode_open(1, RequestHead("GET", "/", headers))
    with pytest.raises(IncompleteAnswer, match="its head is too large"):
        encode_head(1, ResponseHead(200, headers))
    large = RequestHead("GET", "/", (("X", "x" * (MAX_OPENING - 200)),))
    assert decode_open(decode_message(encode_open(1, large)).data) == large


def test_a_sentence_is_cut() -> None:
    sent = encode_reason("KS3001", "x" * 5000)
    assert decode_reason(sent) == ("KS3001", "x" * MAX_SENTENCE)
    received = json.dumps({"code": "", "sentence": "y" * 5000}).encode()
    assert decode_reason(received) == ("", "y" * MAX_SENTENCE)


# -- whatever there is ---------------------------------------------------------------------------


@given(st.dictionaries(UINT64, UINT64), UINT64, UINT64, st.floats(0, 1e9))
def test_any_hello_comes_back(
    received: dict[int, int], window: int, opened: int, seconds: float
) -> None:
    hello = Hello("0a-_Z", window, seconds, opened, received)
    assert decode_hello(decode_message(encode_hello(hello)).data) == hello


@given(UINT64, TOKEN, st.text("abc/%?&=~!", max_size=50), HEADERS)
def test_any_request_comes_back(
    channel_id: int, method: str, target: str, headers: tuple[tuple[str, str], ...]
) -> None:
    request = RequestHead(method, f"/{target}", headers)
    found = decode_message(encode_open(channel_id, request))
    assert (found.channel_id, found.type) == (channel_id, V2Type.OPEN)
    assert decode_open(found.data) == request


@given(UINT64, st.sampled_from((101, 200, 404, 599)), st.text("OK é\t"), HEADERS)
def test_any_answer_comes_back(
    channel_id: int, status: int, reason: str, headers: tuple[tuple[str, str], ...]
) -> None:
    head = ResponseHead(status, headers, reason)
    assert decode_head(decode_message(encode_head(channel_id, head)).data) == head


@given(UINT64, UINT64, UINT64)
def test_any_window_comes_back(channel_id: int, consumed: int, limit: int) -> None:
    found = decode_message(encode_window(channel_id, consumed, limit))
    assert decode_window(found.data) == (consumed, limit)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        (
            *("session", "window", "resumeTimeout", "opened", "received"),
            *("method", "target", "headers", "status", "reason", "code", "sentence"),
        )
    ),
    JSON | st.just("/") | st.just("GET") | st.just(200) | st.just([["X", "y"]]),
)


@given(st.sampled_from(sorted(DECODERS)), FIELDS.map(lambda it: json.dumps(it).encode()))
def test_any_json_is_read_or_refused(kind: int, data: bytes) -> None:
    try:
        found = DECODERS[kind](data)
    except MalformedMessage:
        return
    if isinstance(found, RequestHead):
        assert decode_open(decode_message(encode_open(1, found)).data) == found
    if isinstance(found, ResponseHead):
        assert decode_head(decode_message(encode_head(1, found)).data) == found


@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(kind: int, data: bytes) -> None:
    try:
        found = DECODERS[kind](data)
    except MalformedMessage:
        return
    assert isinstance(found, tuple | list | Hello | RequestHead | ResponseHead)
