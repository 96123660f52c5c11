from itertools import combinations_with_replacement

import pytest

from streamkit.errors import LocalProtocolError, RemoteProtocolError
from streamkit.wire.v2_stream import OPENING_UNITS, ReceiveStream, SendStream

MANY = 1 << 40


def opened(
    *pieces: bytes, window: int = MANY, most_held: int = MANY, ended: bool = False
) -> SendStream:
    """A direction with its opening sent and these pieces queued."""
    stream = SendStream(window=window, most_held=most_held)
    stream.open(b"opening")
    stream.sent = OPENING_UNITS
    for piece in pieces:
        stream.append(piece)
    if ended:
        stream.end()
    return stream


def taken(stream: SendStream, most: int) -> bytes:
    """What ``take`` gives, in one piece."""
    return b"".join(stream.take(most))


def sent(*pieces: bytes, ended: bool = False) -> SendStream:
    """The same, all of it sent."""
    stream = opened(*pieces, ended=ended)
    while stream.has_data:
        stream.take(MANY)
    stream.sent = stream.total
    return stream


def received(size: int, *, window: int = 1000, ended: bool = False) -> ReceiveStream:
    stream = ReceiveStream(window)
    stream.receive_opening()
    stream.receive_data(size)
    if ended:
        stream.receive_end()
    return stream


def consume(stream: ReceiveStream, size: int, *, now: float = 0.0, trip: float = 0.0) -> bool:
    is_due = stream.consume(size)
    if is_due:
        stream.fit(now, trip, 4 * 1000)
    return is_due


# -- the sender ----------------------------------------------------------------------------------


def test_the_opening_needs_no_window_and_data_does() -> None:
    stream = SendStream(window=0, most_held=MANY)
    turns = [stream.has_turn]
    stream.open(b"opening")
    stream.append(b"data")
    turns.append(stream.has_turn)
    stream.sent = OPENING_UNITS
    turns.append(stream.has_turn)
    stream.acknowledge(0, OPENING_UNITS + 3)
    turns.append(stream.has_turn)
    assert taken(stream, MANY) == b"dat"
    turns.append(stream.has_turn)
    assert turns == [False, True, False, True, False]
    assert stream.backlog == 1


def test_the_end_needs_no_window() -> None:
    stream = opened(window=0)
    stream.end()
    assert stream.has_turn
    stream = opened(b"x", window=0)
    stream.end()
    assert not stream.has_turn


def test_large_pieces_are_handed_out_as_they_came() -> None:
    first, second = bytes(5000), bytes(6000)
    stream = opened(first, second)
    pieces = [memoryview(piece) for piece in stream.take(8000)]
    assert [(piece.obj is first, piece.obj is second, len(piece)) for piece in pieces] == [
        (True, False, 5000),
        (False, True, 3000),
    ]
    stream.rewind(OPENING_UNITS)
    assert taken(stream, MANY) == bytes(11_000)


def test_pieces_are_joined_and_cut_to_what_is_asked() -> None:
    stream = opened(b"ab", b"cde", b"f")
    assert [taken(stream, most) for most in (1, 4, 4)] == [b"a", b"bcde", b"f"]
    assert (stream.sent, stream.backlog, stream.has_data) == (7, 0, False)


def test_nothing_goes_before_the_opening_and_there_is_one() -> None:
    stream = SendStream(window=1, most_held=1)
    with pytest.raises(LocalProtocolError):
        stream.append(b"x")
    with pytest.raises(LocalProtocolError):
        stream.end()
    stream.open(b"opening")
    with pytest.raises(LocalProtocolError):
        stream.open(b"opening")
    assert stream.total == OPENING_UNITS


def test_nothing_goes_behind_the_end() -> None:
    stream = opened(b"x")
    stream.end(b"why")
    stream.end(b"another reason")
    stream.append(b"y")
    assert (stream.total, stream.end_reason) == (3, b"why")


def test_what_is_acknowledged_is_let_go() -> None:
    stream = sent(b"abc", b"def", ended=True)
    for consumed in range(stream.total + 1):
        stream.acknowledge(consumed, MANY)
        assert sum(map(len, stream._sent_pieces)) == 6 - min(6, max(0, consumed - 1))
        assert stream.is_settled is (consumed == stream.total)


def test_old_acknowledgements_take_nothing_back() -> None:
    stream = sent(b"abc")
    stream.acknowledge(3, 500)
    stream.acknowledge(1, 400)
    assert (stream.acked, stream.limit) == (3, OPENING_UNITS + MANY)


@pytest.mark.parametrize("consumed", [6, MANY])
def test_what_was_never_sent_can_not_be_acknowledged(consumed: int) -> None:
    stream = sent(b"abc", ended=True)
    with pytest.raises(RemoteProtocolError, match="never sent"):
        stream.acknowledge(consumed, MANY)


@pytest.mark.parametrize("ended", [False, True])
def test_it_goes_back_to_any_position_that_is_held(*, ended: bool) -> None:
    total = sent(b"abc", b"de", b"f", ended=ended).total
    for acked, position in combinations_with_replacement(range(total + 1), 2):
        stream = sent(b"abc", b"de", b"f", ended=ended)
        stream.acknowledge(acked, MANY)
        stream.rewind(position)
        again = b""
        stream.sent = max(stream.sent, OPENING_UNITS)
        while stream.has_data:
            again += taken(stream, 2)
        assert again == b"abcdef"[max(0, position - OPENING_UNITS) :]
        assert stream.sent == max(7, position)
        assert stream.is_ended is ended


@pytest.mark.parametrize("position", [1, 6])
def test_it_goes_to_no_other_position(position: int) -> None:
    stream = sent(b"abcd")
    stream.acknowledge(2, MANY)
    with pytest.raises(RemoteProtocolError, match="not held"):
        stream.rewind(position)


def test_a_generous_peer_does_not_make_it_hold_more_than_its_own_limit() -> None:
    stream = opened(bytes(100), most_held=30)
    stream.acknowledge(1, MANY)
    assert len(taken(stream, MANY)) == 30
    assert not stream.has_turn
    stream.acknowledge(11, MANY)
    assert len(taken(stream, MANY)) == 10
    assert not stream.has_turn


def test_a_new_tunnel_grants_no_less_than_before() -> None:
    stream = opened(window=100)
    stream.grant(50)
    assert stream.limit == OPENING_UNITS + 100
    stream.grant(200)
    assert stream.limit == OPENING_UNITS + 200
    stream.begin_anew(50)
    assert stream.limit == OPENING_UNITS + 50


def test_single_bytes_are_not_kept_one_by_one() -> None:
    stream = opened()
    for _ in range(20_000):
        stream.append(b"x")
    assert len(stream._unsent) < 20
    while stream.has_data:
        stream.take(1)
    assert len(stream._sent_pieces) < 20
    stream.rewind(OPENING_UNITS)
    assert (
        b"".join(iter(lambda: taken(stream, 7000) if stream.has_data else b"", b""))
        == b"x" * 20_000
    )


def test_clearing_lets_everything_go() -> None:
    stream = opened(b"abc", b"d")
    stream.take(2)
    stream.clear()
    assert not stream._unsent
    assert not stream._sent_pieces


# -- the receiver --------------------------------------------------------------------------------


def test_positions_count_the_opening_every_byte_and_the_end() -> None:
    stream = ReceiveStream(10)
    seen = [(stream.received, stream.consumed)]
    stream.receive_opening()
    seen.append((stream.received, stream.consumed))
    stream.receive_data(4)
    consume(stream, 3)
    seen.append((stream.received, stream.consumed))
    stream.receive_end()
    seen.append((stream.received, stream.consumed))
    assert not stream.is_settled
    consume(stream, 1)
    seen.append((stream.received, stream.consumed))
    assert seen == [(0, 0), (1, 1), (5, 4), (6, 4), (6, 6)]
    assert stream.is_settled


def test_nothing_comes_before_the_opening_behind_the_end_or_twice() -> None:
    stream = ReceiveStream(10)
    for early in (stream.receive_end, lambda: stream.receive_data(1)):
        with pytest.raises(RemoteProtocolError):
            early()
    stream.receive_opening()
    with pytest.raises(RemoteProtocolError):
        stream.receive_opening()
    stream.receive_end()
    for late in (stream.receive_end, lambda: stream.receive_data(0)):
        with pytest.raises(RemoteProtocolError):
            late()
    assert stream.received == 2


def test_the_window_is_the_limit() -> None:
    stream = received(1000)
    with pytest.raises(RemoteProtocolError, match="beyond the window"):
        stream.receive_data(1)
    consume(stream, 1)
    stream.receive_data(1)
    assert (stream.unconsumed, stream.received) == (1000, 1002)


def test_no_more_is_consumed_than_came() -> None:
    with pytest.raises(LocalProtocolError):
        consume(received(3), 4)


def test_the_peer_hears_of_a_quarter_window_and_of_the_end() -> None:
    stream = received(1000)
    assert [consume(stream, size) for size in (249, 1)] == [False, True]
    assert stream.announce() == (251, 1251)
    assert [consume(stream, size) for size in (249, 1)] == [False, True]
    stream = received(5, ended=True)
    assert [consume(stream, size) for size in (4, 1)] == [False, True]
    assert stream.announce() == (7, 1006)


def windows_of(stream: ReceiveStream, seconds: list[float], *, trip: float) -> list[int]:
    """The windows after each of the times in which a whole one is consumed."""
    now, found = 100.0, []
    for each in seconds:
        size = stream.limit - stream.received
        stream.receive_data(size)
        now += each
        consume(stream, size, now=now, trip=trip)
        stream.announce()
        found.append(stream.window)
    return found


@pytest.mark.parametrize(
    ("seconds", "windows"),
    [
        (0.39, [1000, 2000, 4000, 4000]),
        (0.401, [1000] * 4),
        (60.0, [1000] * 4),
    ],
    ids=["limited", "enough", "idle"],
)
def test_it_grows_while_a_window_takes_less_than_two_trips(
    seconds: float, windows: list[int]
) -> None:
    stream = received(0)
    assert windows_of(stream, [seconds] * 4, trip=0.2) == windows


def test_it_shrinks_to_what_it_was_while_a_window_takes_more_than_four_trips() -> None:
    stream = received(0)
    assert windows_of(stream, [0.1] * 3, trip=0.2) == [1000, 2000, 4000]
    assert windows_of(stream, [0.79, 0.81, 0.81, 0.81], trip=0.2) == [4000, 2000, 1000, 1000]


def test_what_was_welcome_before_it_shrank_still_is() -> None:
    stream = received(0)
    windows_of(stream, [0.1] * 3, trip=0.2)
    stream.receive_data(4000)
    for size in (1000, 1000, 1000):
        consume(stream, size, now=1000.0, trip=0.2)
        stream.announce()
    announced = stream.limit
    consume(stream, 1000, now=1000.0, trip=0.2)
    assert stream.window == 2000
    assert stream.limit == announced
    stream.receive_data(announced - stream.received)
    with pytest.raises(RemoteProtocolError, match="beyond the window"):
        stream.receive_data(1)
    assert [consume(stream, size, now=1001.0, trip=0.2) for size in (1000, 500)] == [False, True]
    assert stream.announce() == (announced - 1500, announced + 500)


def test_it_stays_as_it_is_before_a_trip_is_known() -> None:
    assert windows_of(received(0), [0.0, 60.0, 0.0], trip=0.0) == [1000] * 3
