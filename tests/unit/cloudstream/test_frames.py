"""A WebSocket client's Close frame is seen at any split of what it sends."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudstream.frames import ClientClose
from tests.support.frames import BINARY, CLOSE, PING, TEXT, close_frame, frame

DATA = b"".join(
    (
        frame(BINARY, b"\x00" + close_frame(1000, masked=True), masked=True),
        frame(PING, masked=True),
        frame(BINARY, bytes(300), masked=True),
        frame(TEXT, b"0", fin=False, masked=True),
        frame(BINARY, b"\x88" * (1 << 16), masked=True),
    )
)
CUTS = st.lists(st.integers(0, 400), max_size=12)


@pytest.mark.parametrize(
    "close", [close_frame(1000, "bye", masked=True), frame(CLOSE, masked=True)], ids=len
)
@given(CUTS)
def test_it_is_seen_with_its_last_byte(close: bytes, cuts: list[int]) -> None:
    seen = ClientClose()
    edges = [0, *sorted(cuts), len(DATA)]
    for begin, end in pairwise(edges):
        seen.follow(DATA[begin:end])
        assert not seen.is_complete
    for position in range(len(close)):
        assert not seen.is_complete
        seen.follow(close[position : position + 1])
    assert seen.is_complete
