from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.spdy.frames import (
    FIN,
    MAX_CONTROL_PAYLOAD,
    Control,
    Data,
    Frame,
    FrameReader,
    Kind,
    control_frame,
    data_frame,
)
from streamkit.errors import BadRequest
from tests.unit.edgestream.spdy.recordings import KUBECTL

CUTS = st.lists(st.integers(0, len(KUBECTL)), max_size=12)


def joined(frames: list[Frame]) -> list[tuple[object, ...]]:
    """Control frames, and what came of each data frame in one piece."""
    found: list[tuple[object, ...]] = []
    data = b""
    for frame in frames:
        if isinstance(frame, Control):
            found.append((frame.kind, frame.flags, frame.payload))
        else:
            data += frame.payload
            if frame.is_last or data.endswith(b"\r\n\r\n"):
                found.append((frame.stream_id, data, frame.is_last))
                data = b""
    return found


@given(CUTS)
def test_frames_are_found_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    reader = FrameReader()
    edges = [0, *sorted(cuts), len(KUBECTL)]
    frames = [frame for begin, end in pairwise(edges) for frame in reader.feed(KUBECTL[begin:end])]
    opened, ended, other, data, reset, gone = joined(frames)
    assert (opened[:2], other[:2]) == ((Kind.SYN_STREAM, 0), (Kind.SYN_STREAM, 0))
    assert ended == (1, b"", True)
    assert data == (3, b"GET / HTTP/1.0\r\n\r\n", False)
    assert reset == (Kind.RST_STREAM, 0, bytes.fromhex("0000000300000005"))
    assert gone == (Kind.GOAWAY, 0, bytes(8))


def test_of_a_data_frame_nothing_is_held_back() -> None:
    reader = FrameReader()
    frame = data_frame(5, b"abcdef", is_last=True)
    assert reader.feed(frame[:10]) == [Data(5, memoryview(b"ab"), is_last=False)]
    assert reader.feed(frame[10:]) == [Data(5, memoryview(b"cdef"), is_last=True)]


def test_frames_to_the_byte() -> None:
    assert data_frame(3, b"hi") == bytes.fromhex("00000003 00000002 6869")
    assert data_frame(3, is_last=True) == bytes.fromhex("00000003 01000000")
    ping = control_frame(Kind.PING, bytes.fromhex("00000001"))
    assert ping == bytes.fromhex("80030006 00000004 00000001")
    reply = control_frame(Kind.SYN_REPLY, b"\0\0\0\x03", FIN)
    assert reply == bytes.fromhex("80030002 01000004 00000003")


@pytest.mark.parametrize(
    "broken",
    [
        bytes.fromhex("80020001 00000001"),
        control_frame(Kind.SYN_STREAM, bytes(MAX_CONTROL_PAYLOAD + 1)),
    ],
)
def test_what_can_not_be_understood(broken: bytes) -> None:
    with pytest.raises(BadRequest):
        FrameReader().feed(broken)
