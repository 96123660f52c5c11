"""Frames are followed at any split of the bytes; a lost session ends with a Failure status."""

import json
from base64 import b64decode
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudstream.kubelet_path import Subject
from cloudstream.session_end import MAX_HELD, SessionEnd, session_end_of
from streamkit.errors import TunnelClosed
from streamkit.wire.exchange import RequestHead, ResponseHead

REQUEST = RequestHead("POST", "/exec/default/pod/c?command=sh")
EXEC = Subject("exec", "default", "pod")
LOST = TunnelClosed("the edge's connection broke")


def spdy(version: str = "v4.channel.k8s.io") -> SessionEnd:
    head = ResponseHead(101, (("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", version)))
    found = session_end_of(REQUEST, head, EXEC)
    assert found
    return found


def websocket(subprotocol: str) -> SessionEnd:
    head = ResponseHead(101, (("Upgrade", "websocket"), ("Sec-WebSocket-Protocol", subprotocol)))
    found = session_end_of(REQUEST, head, EXEC)
    assert found
    return found


def spdy_data(stream: int, payload: bytes) -> bytes:
    return stream.to_bytes(4) + len(payload).to_bytes(4) + payload


def spdy_reply(stream: int) -> bytes:
    return bytes.fromhex("80030002") + (6).to_bytes(4) + stream.to_bytes(4) + b"zz"


SPDY_REPLY = spdy_reply(1)


def fed(end: SessionEnd, stream: bytes, cuts: list[int]) -> bytes:
    out = b""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, stop in pairwise(edges):
        out += bytes(end.feed(stream[begin:stop]))
    return out


@given(st.lists(st.integers(0, 400), max_size=12))
def test_spdy_is_cut_at_frame_boundaries(cuts: list[int]) -> None:
    whole = SPDY_REPLY + spdy_data(5, b"x" * 300) + spdy_data(7, b"")
    end = spdy()
    assert fed(end, whole + spdy_data(5, b"unfinished")[:-3], cuts) == whole
    assert end.rest() == spdy_data(5, b"unfinished")[:-3]


def test_a_large_frame_is_not_held_back() -> None:
    end = spdy()
    frame = spdy_data(5, b"x" * (MAX_HELD * 3))
    assert bytes(end.feed(frame[: MAX_HELD // 2])) == frame[: MAX_HELD // 2]
    assert bytes(end.feed(frame[MAX_HELD // 2 :] + b"\0")) == frame[MAX_HELD // 2 :]
    assert end.rest() == b"\0"


def test_a_lost_spdy_session_ends_with_a_failure() -> None:
    end = spdy()
    end.feed(SPDY_REPLY + b"\0\0")
    frames = end.failure(LOST)
    assert frames[:4] == (1).to_bytes(4)
    assert frames[4] == 1
    assert int.from_bytes(frames[5:8]) == len(frames) - 8
    status = json.loads(frames[8:])
    assert (status["status"], status["reason"], status["code"]) == ("Failure", "InternalError", 500)
    assert status["message"] == "the session was lost: the edge's connection broke [KS2001]"
    assert end.failure(LOST) == b""


def test_the_other_streams_of_a_lost_session_end_too() -> None:
    end = spdy()
    end.feed(SPDY_REPLY + spdy_reply(3) + spdy_reply(5) + spdy_data(5, b"output"))
    frames = end.failure(LOST)
    size = 8 + int.from_bytes(frames[5:8])
    assert frames[size:] == bytes.fromhex("00000003 01000000 00000005 01000000")


def test_a_status_that_was_sent_is_not_contradicted() -> None:
    end = spdy()
    assert spdy().lacks_status
    end.feed(spdy_data(1, b'{"status":"Success"}'))
    assert not end.lacks_status
    assert end.failure(LOST) == b""


def test_old_versions_get_text_and_lack_nothing() -> None:
    end = spdy("v2.channel.k8s.io")
    assert not end.lacks_status
    assert end.failure(LOST)[8:].startswith(b"the session was lost")


@pytest.mark.parametrize(
    ("subprotocol", "opcode"), [("v4.channel.k8s.io", 0x82), ("v4.base64.channel.k8s.io", 0x81)]
)
def test_a_lost_websocket_session_ends_with_a_failure(subprotocol: str, opcode: int) -> None:
    end = websocket(subprotocol)
    frame = bytes((opcode, 3)) + (b"\1ab" if opcode == 0x82 else b"1YQ")
    assert bytes(end.feed(frame + frame[:1])) == frame
    answer = end.failure(LOST)
    assert answer[:2] == bytes((opcode, 126))
    payload = answer[4 : 4 + int.from_bytes(answer[2:4])]
    status = payload[1:] if opcode == 0x82 else b64decode(payload[1:])
    assert payload[0] == (3 if opcode == 0x82 else ord("3"))
    assert json.loads(status)["status"] == "Failure"
    assert answer.endswith(b"\x88\x02\x03\xe8")


@given(st.lists(st.integers(0, 70_200), max_size=8))
def test_websocket_is_cut_at_frame_boundaries(cuts: list[int]) -> None:
    small, middle = b"\x82\x02\1a", b"\x82\x7e\x01\x00" + b"\2" * 256
    large = b"\x82\x7f" + (70_000).to_bytes(8) + b"\1" * 70_000
    end = websocket("v4.channel.k8s.io")
    assert fed(end, small + middle + large + small, cuts) + end.rest() == (
        small + middle + large + small
    )
    assert end.lacks_status


def test_port_forward_has_no_status() -> None:
    head = ResponseHead(101, (("Upgrade", "SPDY/3.1"),))
    assert session_end_of(REQUEST, head, Subject("portForward", "default", "pod")) is None
