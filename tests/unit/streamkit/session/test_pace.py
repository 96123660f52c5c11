"""Messages grow on a fast link and shrink on a slow one, within bounds."""

from streamkit.session.pace import LARGEST, SMALLEST, Pace


def drained_at(pace: Pace, rate: float, rounds: int) -> None:
    now = 0.0
    for _ in range(rounds):
        pace.sent(pace.size)
        pace.filled(now)
        now += pace.size / rate
        pace.drained(now)


def test_a_fast_link_carries_large_messages() -> None:
    pace = Pace(64 * 1024)
    drained_at(pace, 200e6, 5)
    assert pace.size == LARGEST


def test_a_slow_link_carries_small_messages() -> None:
    pace = Pace(64 * 1024)
    drained_at(pace, 0.5e6, 5)
    assert pace.size == SMALLEST
    drained_at(pace, 200e6, 5)
    assert pace.size == LARGEST


def test_a_change_is_reported_once() -> None:
    pace = Pace(LARGEST)
    pace.sent(1000)
    pace.filled(0.0)
    assert pace.drained(1.0)
    pace.sent(SMALLEST * 4)
    pace.filled(1.0)
    assert not pace.drained(1.0 + SMALLEST * 4 * 0.02 / pace.size)
