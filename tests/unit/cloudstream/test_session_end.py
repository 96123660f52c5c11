"""Frames are followed at any split of the bytes; a lost session ends with a Failure status."""

import json
from base64 import b64decode
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudstream.kubelet_path import Subject
from cloudstream.session_end import MAX_FILLED, SessionEnd, session_end_of
from streamkit.errors import TunnelClosed
from streamkit.wire.exchange import RequestHead, ResponseHead

REQUEST = RequestHead("POST", "/exec/default/pod/c?command=sh")
EXEC = Subject("exec", "default", "pod")
LOST = TunnelClosed("the edge's connection broke")
SENTENCE = "the session was lost: the edge's connection broke [KS2001]"
CUTS = st.lists(st.integers(0, 400), max_size=12)


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


def spdy_frames(stream: bytes) -> list[tuple[int, int, bytes]]:
    """First word, flags and payload of every frame; fails where the last one is not whole."""
    frames = []
    while stream:
        length = int.from_bytes(stream[5:8])
        assert len(stream) >= 8 + length
        frames.append((int.from_bytes(stream[:4]), stream[4], stream[8 : 8 + length]))
        stream = stream[8 + length :]
    return frames


def passed_on(end: SessionEnd, stream: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return b"".join(end.pass_on(stream[begin:stop]) for begin, stop in pairwise(edges))


@given(CUTS, st.integers(0, 330))
def test_a_status_follows_wherever_the_session_was_cut(cuts: list[int], at: int) -> None:
    whole = SPDY_REPLY + spdy_data(5, b"x" * 300) + spdy_data(7, b"")
    end = spdy()
    sent = passed_on(end, whole[: len(SPDY_REPLY) + at], cuts)
    failure = end.failure(LOST)
    stream, flags, payload = spdy_frames(sent + failure)[-1]
    assert (stream, flags) == (1, 1)
    assert json.loads(payload)["message"] == SENTENCE
    assert end.failure(LOST) == b""


@given(CUTS, st.sampled_from((0, 8, 9, 13, 14, 22, 27, 28, 30, 36, 40)))
def test_the_other_streams_end_too(cuts: list[int], at: int) -> None:
    whole = SPDY_REPLY + spdy_reply(3) + spdy_reply(5) + spdy_data(5, b"output")
    end = spdy()
    sent = passed_on(end, whole[: len(SPDY_REPLY) + at], cuts)
    frames = spdy_frames(sent + end.failure(LOST))
    accepted = [int.from_bytes(payload[:4]) for word, _, payload in frames if word == 0x80030002]
    ended = [word for word, flags, _ in frames if flags]
    assert accepted[0] == ended[0] == 1
    # One that was not accepted in whole may be ended or not; the client knows its number.
    assert ended[1:] in (accepted[1:], accepted[1:-1])


@given(CUTS)
def test_a_status_that_was_sent_is_not_contradicted(cuts: list[int]) -> None:
    end = spdy()
    assert spdy().lacks_status
    stream = SPDY_REPLY + spdy_data(5, b"out") + spdy_data(1, b'{"status":"Success"}')
    assert passed_on(end, stream, cuts) == stream
    assert not end.lacks_status
    assert end.failure(LOST) == b""


SPDY_GIVEN_UP = b"".join(
    bytes.fromhex("80030003") + (8).to_bytes(4) + stream.to_bytes(4) + (5).to_bytes(4)
    for stream in (5, 1, 3)
)


@given(CUTS)
def test_a_status_comes_before_the_reset_that_would_hide_it(cuts: list[int]) -> None:
    before = SPDY_REPLY + spdy_reply(5) + spdy_data(5, b"out") + SPDY_GIVEN_UP[:16]
    stream = before + SPDY_GIVEN_UP[16:]
    end = spdy()
    sent = passed_on(end, stream, cuts)
    assert sent.startswith(before)
    assert sent.endswith(SPDY_GIVEN_UP[16:])
    stream_id, flags, payload = spdy_frames(sent[len(before) :])[0]
    assert (stream_id, flags) == (1, 1)
    message = "the session was lost: it ended without a status [KS3004]"
    assert json.loads(payload)["message"] == message
    assert not end.lacks_status


@given(CUTS)
def test_what_ends_in_good_order_passes_unchanged(cuts: list[int]) -> None:
    frames = SPDY_REPLY + spdy_reply(5) + spdy_data(5, b"out") + spdy_data(5, b"")
    ended = spdy_data(1, b'{"status":"Success"}') + SPDY_GIVEN_UP + b"\x80\x03\0"
    for stream in (frames, frames + ended, b"some other protocol altogether"):
        assert passed_on(spdy(), stream, cuts) == stream


def test_a_header_goes_out_as_a_whole() -> None:
    end = spdy()
    steps = (SPDY_REPLY, b"\0", b"\0\0\5\0\0\0", b"\2a", b"b" + SPDY_GIVEN_UP[:11])
    assert [bytes(end.pass_on(step)) for step in steps] == [
        SPDY_REPLY, b"", b"", b"\0\0\0\5\0\0\0\2a", b"b",
    ]  # fmt: skip


def test_a_reset_behind_the_status_changes_nothing() -> None:
    stream = SPDY_REPLY + spdy_data(1, b'{"status":"Success"}') + SPDY_GIVEN_UP
    assert spdy().pass_on(stream) == stream
    assert spdy("v2.channel.k8s.io").pass_on(SPDY_REPLY + SPDY_GIVEN_UP) == (
        SPDY_REPLY + SPDY_GIVEN_UP
    )


def test_a_session_that_got_no_answer_is_told_too() -> None:
    status = json.loads(spdy().failure(LOST)[8:])
    assert (status["status"], status["reason"], status["code"]) == ("Failure", "InternalError", 500)


def test_a_frame_too_large_to_fill_ends_nothing() -> None:
    end = spdy()
    end.pass_on(SPDY_REPLY + spdy_data(5, b"x" * (MAX_FILLED + 2))[: 8 + 1])
    assert end.failure(LOST) == b""


@pytest.mark.parametrize("stream", [b"some other protocol altogether", b"done", b"\0"])
def test_what_is_no_spdy_is_left_alone(stream: bytes) -> None:
    end = spdy()
    assert end.pass_on(stream) == stream
    assert not end.lacks_status
    assert end.failure(LOST) == b""


def test_old_versions_get_text_and_lack_nothing() -> None:
    end = spdy("v2.channel.k8s.io")
    assert not end.lacks_status
    assert end.failure(LOST)[8:].startswith(b"the session was lost")


@pytest.mark.parametrize(
    ("subprotocol", "opcode"), [("v4.channel.k8s.io", 0x82), ("v4.base64.channel.k8s.io", 0x81)]
)
@given(cuts=CUTS)
def test_a_lost_websocket_session_ends_with_a_failure(
    subprotocol: str, opcode: int, cuts: list[int]
) -> None:
    end = websocket(subprotocol)
    digit = b"\1" if opcode == 0x82 else b"1"
    middle = bytes((opcode, 126)) + (300).to_bytes(2) + digit * 300
    passed_on(end, bytes((opcode, 0)) + bytes((opcode, 3)) + digit * 3 + middle[:-7], cuts)
    answer = end.failure(LOST)
    assert answer[:7] == bytes(7)
    assert answer[7:9] == bytes((opcode, 126))
    payload = answer[11 : 11 + int.from_bytes(answer[9:11])]
    status = payload[1:] if opcode == 0x82 else b64decode(payload[1:])
    assert payload[0] == (3 if opcode == 0x82 else ord("3"))
    assert json.loads(status)["message"] == SENTENCE
    assert answer.endswith(b"\x88\x02\x03\xe8")


@given(CUTS)
def test_a_websocket_status_comes_before_the_close(cuts: list[int]) -> None:
    before, close = b"\x82\x03\x01ab", b"\x88\x02\x03\xe8"
    for status, is_told in ((b"", False), (b"\x82\x03\x03{}", True)):
        end = websocket("v4.channel.k8s.io")
        stream = before + status + close
        sent = passed_on(end, stream, cuts)
        if is_told:
            assert sent == stream
        else:
            assert sent.startswith(before + b"\x82\x7e")
            assert b"it ended without a status" in sent
            assert sent.endswith(close * 2)


def test_a_websocket_status_is_seen() -> None:
    end = websocket("v4.channel.k8s.io")
    end.pass_on(b"\x82\x01\x03")
    assert end.lacks_status
    end.pass_on(b"\x82\x7f" + (70_000).to_bytes(8) + b"\1" * 70_000 + b"\x82\x03\x03{}")
    assert not end.lacks_status


def test_port_forward_has_no_status() -> None:
    head = ResponseHead(101, (("Upgrade", "SPDY/3.1"),))
    assert session_end_of(REQUEST, head, Subject("portForward", "default", "pod")) is None
