from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import BadConnectRequest
from streamkit.wire.connect_request import (
    canonical_header_name,
    decode_connect_request,
    encode_connect_request,
)
from streamkit.wire.exchange import RequestHead
from streamkit.wire.message import CONNECT_TYPES, MessageType
from tests.unit.streamkit.wire.vectors import data_of, each, request_of


@each("connects", "encode")
def test_encodes_byte_for_byte_as_go(vector: dict[str, Any]) -> None:
    encoded = encode_connect_request(vector["id"], MessageType(vector["type"]), request_of(vector))
    assert encoded.decode() == vector["text"]


@each("connects", "decode")
def test_decodes_as_go(vector: dict[str, Any]) -> None:
    decoded = decode_connect_request(memoryview(data_of(vector)), vector["type"])
    assert decoded == (vector["id"], request_of(vector))


@each("refused")
def test_refuses_what_is_no_request(vector: dict[str, Any]) -> None:
    with pytest.raises(BadConnectRequest) as raised:
        decode_connect_request(data_of(vector), MessageType.EXEC_CONNECT)
    assert str(raised.value) == vector["error"]


@each("uncarriable")
def test_refuses_targets_that_no_message_can_hold(vector: dict[str, Any]) -> None:
    request = RequestHead("GET", vector["target"])
    with pytest.raises(BadConnectRequest) as raised:
        encode_connect_request(1, MessageType.EXEC_CONNECT, request)
    assert str(raised.value) == vector["error"]
    assert raised.value.http_status == 400


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(BadConnectRequest):
        decode_connect_request(b'{"a":' * 100_000, MessageType.LOGS_CONNECT)


@given(st.binary(max_size=200), st.sampled_from(sorted(CONNECT_TYPES)))
def test_any_bytes_are_a_request_or_refused(data: bytes, message_type: int) -> None:
    try:
        channel_id, request = decode_connect_request(data, message_type)
    except BadConnectRequest:
        return
    assert isinstance(channel_id, int)
    assert request.target.startswith("/")


TOKEN = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True)
VALUE = st.text(st.characters(max_codepoint=0xFF, exclude_characters="\r\n\0"), max_size=20)
PATH = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.integers(1, (1 << 64) - 1), TOKEN, PATH, st.text("abc=&%?/<>;\"'", max_size=10), TOKEN, VALUE
)
def test_what_is_encoded_is_decoded(
    channel_id: int, method: str, path: str, query: str, name: str, value: str
) -> None:
    target = f"/{quote(path, safe='/')}" + (f"?{query}" if query else "")
    text = value.encode("latin-1").decode(errors="replace").encode().decode("latin-1")
    is_carried = name.lower() not in ("host", "transfer-encoding")
    headers = ((canonical_header_name(name), text),) if is_carried else ()
    request = RequestHead(method, target, ((name, text),))
    encoded = encode_connect_request(channel_id, MessageType.ATTACH_CONNECT, request)
    assert decode_connect_request(encoded, MessageType.ATTACH_CONNECT) == (
        channel_id,
        RequestHead(method, target, headers),
    )
