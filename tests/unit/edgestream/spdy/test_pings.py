from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgestream.spdy.pings import PingFilter

PING = bytes.fromhex("80030006 00000004")
SYN_STREAM = bytes.fromhex("80030001 0000000a") + b"any header"
CUTS = st.lists(st.integers(0, 200), max_size=12)


def data_frame(payload: bytes) -> bytes:
    return (3).to_bytes(4) + len(payload).to_bytes(4) + payload


def ping(number: int) -> bytes:
    return PING + number.to_bytes(4)


def fed(pings: PingFilter, stream: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [pings.feed(stream[begin:end]) for begin, end in pairwise(edges) if begin < end]
    return b"".join(other for other, _ in pieces), b"".join(found for _, found in pieces)


@given(CUTS)
def test_pings_are_taken_out_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    parts = [SYN_STREAM, ping(1), data_frame(b"x" * 50), data_frame(b""), ping(3), ping(5)]
    parts += [data_frame(ping(7)), SYN_STREAM]
    pings = [parts[number] for number in (1, 4, 5)]
    others = [part for part in parts if part not in pings]
    assert fed(PingFilter(), b"".join(parts), cuts) == (b"".join(others), b"".join(pings))


def test_it_tells_where_a_frame_ends() -> None:
    pings = PingFilter()
    frame = data_frame(b"x" * 50)
    seen = []
    for piece in (SYN_STREAM, frame[:5], frame[5:30], frame[30:] + ping(1), ping(3)[:9]):
        pings.feed(piece)
        seen.append(pings.is_in_frame)
    assert seen == [False, False, True, False, False]


@given(CUTS)
def test_what_is_no_spdy_passes_as_it_is(cuts: list[int]) -> None:
    stream = b"GET / HTTP/1.1\r\n" + ping(1) * 5
    assert fed(PingFilter(), stream, cuts) == (stream, b"")
    assert PingFilter().feed(stream[:1]) == (stream[:1], b"")
