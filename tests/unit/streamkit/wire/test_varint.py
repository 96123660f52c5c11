import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import MalformedMessage
from streamkit.wire.varint import MAX_LENGTH, MAX_VALUE, decode_uvarint, encode_uvarint

VALUES = st.integers(0, MAX_VALUE) | st.integers(0, 64).map(lambda bits: (1 << bits) - 1)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "80 01"),
        (300, "ac 02"),
        (16383, "ff 7f"),
        (16384, "80 80 01"),
        (MAX_VALUE, "ff ff ff ff ff ff ff ff ff 01"),
    ],
)
def test_known_values(value: int, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert encode_uvarint(value) == data
    assert decode_uvarint(data) == (value, len(data))


@given(VALUES, st.binary(max_size=4), st.binary(max_size=12))
def test_what_is_written_is_read_wherever_it_stands(
    value: int, before: bytes, behind: bytes
) -> None:
    encoded = encode_uvarint(value)
    assert 1 <= len(encoded) <= MAX_LENGTH
    position = len(before)
    for data in (before + encoded + behind, memoryview(before + encoded + behind)):
        assert decode_uvarint(data, position) == (value, position + len(encoded))


@given(VALUES, st.data())
def test_what_is_cut_is_refused(value: int, data: st.DataObject) -> None:
    encoded = encode_uvarint(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(MalformedMessage, match="ends inside its header"):
        decode_uvarint(encoded[:cut])


@given(st.binary(max_size=16))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        value, position = decode_uvarint(data)
    except MalformedMessage:
        return
    assert 0 <= value <= MAX_VALUE
    assert 1 <= position <= min(len(data), MAX_LENGTH)
    assert data[position - 1] < 0x80
    assert all(byte >= 0x80 for byte in data[: position - 1])


@pytest.mark.parametrize("encoded", ["80 00", "80 80 80 80 80 80 80 80 80 00"])
def test_more_bytes_than_needed_are_accepted(encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert decode_uvarint(data) == (0, len(data))
