from hypothesis import given
from hypothesis import strategies as st

from streamkit.wire.outbox import SLICE, Outbox


def drained(outbox: Outbox) -> list[tuple[int, bytes, bool]]:
    turns = []
    while turn := outbox.next_data():
        turns.append((turn[0], bytes(turn[1]), turn[2]))
    return turns


def test_control_leaves_in_order_and_is_never_mixed_with_data() -> None:
    outbox = Outbox()
    outbox.add(1)
    outbox.data(1, b"data")
    outbox.control(b"a")
    outbox.control(b"b")
    assert [outbox.next_control(), outbox.next_control(), outbox.next_control()] == [
        b"a",
        b"b",
        None,
    ]
    assert drained(outbox) == [(1, b"data", False)]


def test_channels_take_turns_a_slice_at_a_time() -> None:
    outbox = Outbox()
    for channel_id in (1, 2):
        outbox.add(channel_id)
        outbox.data(channel_id, bytes(2 * SLICE + 1))
    outbox.add(3)
    outbox.data(3, b"key")
    turns = drained(outbox)
    assert [channel_id for channel_id, _, _ in turns] == [1, 2, 3, 1, 2, 1, 2]
    assert [len(data) for _, data, _ in turns] == [SLICE, SLICE, 3, SLICE, SLICE, 1, 1]


def test_small_pieces_leave_together() -> None:
    outbox = Outbox()
    outbox.add(1)
    for piece in (b"a", b"", b"bc", b"d" * SLICE, b"e"):
        outbox.data(1, piece)
    assert [data for _, data, _ in drained(outbox)] == [b"abc", b"d" * SLICE, b"e"]


def test_the_end_comes_with_the_last_byte_or_alone() -> None:
    outbox = Outbox()
    outbox.add(1)
    outbox.data(1, b"bye")
    outbox.end(1)
    outbox.add(2)
    outbox.end(2)
    assert outbox.is_ended(1)
    assert drained(outbox) == [(1, b"bye", True), (2, b"", True)]
    outbox.remove(1)
    assert not outbox.is_ended(1)


def test_a_held_channel_waits_for_its_release() -> None:
    outbox = Outbox()
    outbox.add(1, held=True)
    outbox.data(1, b"early")
    outbox.end(1)
    assert drained(outbox) == []
    assert outbox.backlog(1) == 5
    outbox.release(1)
    assert drained(outbox) == [(1, b"early", True)]
    assert outbox.backlog(1) == 0


def test_a_removed_channel_leaves_nothing_behind() -> None:
    outbox = Outbox()
    outbox.add(1)
    outbox.data(1, b"lost")
    outbox.remove(1)
    outbox.remove(1)
    outbox.release(1)
    assert 1 not in outbox
    assert (drained(outbox), outbox.backlog(1)) == ([], 0)
    outbox.add(1)
    outbox.data(1, b"new")
    assert drained(outbox) == [(1, b"new", False)]


PIECES = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3 * SLICE)), max_size=20)


@given(PIECES, st.sets(st.integers(1, 4)))
def test_every_byte_leaves_once_and_in_order(pieces: list[tuple[int, int]], ends: set[int]) -> None:
    outbox = Outbox()
    expected = dict.fromkeys(range(1, 5), b"")
    for channel_id in expected:
        outbox.add(channel_id)
    for number, (channel_id, size) in enumerate(pieces):
        data = bytes((number,)) * size
        outbox.data(channel_id, data)
        expected[channel_id] += data
    for channel_id in ends:
        outbox.end(channel_id)
    left = dict.fromkeys(expected, b"")
    ended = set()
    for channel_id, data, is_last in drained(outbox):
        assert len(data) <= SLICE
        assert channel_id not in ended
        left[channel_id] += data
        if is_last:
            ended.add(channel_id)
    assert left == expected
    assert ended == ends
