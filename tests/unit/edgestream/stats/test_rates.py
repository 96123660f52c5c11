from hypothesis import given
from hypothesis import strategies as st

from edgestream.stats.rates import LONGEST, SHORTEST, CpuRates

SECOND = 10**9
START = 1_700_000_000 * SECOND


def rates_of(*looks: tuple[float, float]) -> list[int | None]:
    """The rate at each look: when, in seconds, and seconds of processor time so far."""
    rates = CpuRates()
    return [
        rates.observe("c1", at=START + int(at * SECOND), used=int(used * SECOND))
        for at, used in looks
    ]


def test_nothing_is_known_at_first_sight() -> None:
    assert rates_of((0, 100)) == [None]


def test_the_rate_since_the_last_look() -> None:
    assert rates_of((0, 100), (15, 103), (30, 103)) == [None, SECOND // 5, 0]


def test_looks_that_come_often_share_a_window() -> None:
    looks = [(at, at / 4) for at in range(40)]
    assert rates_of(*looks)[1:] == [SECOND // 4] * 39


def test_a_second_caller_does_not_shorten_the_window() -> None:
    assert rates_of((0, 0), (20, 10), (20.001, 10.001))[-1] == 10_001 * SECOND // 20_001


def test_a_look_too_soon_tells_nothing() -> None:
    assert rates_of((0, 0), (0.5, 0.5), (1, 1)) == [None, None, SECOND]


def test_a_look_that_is_told_late_does_no_harm() -> None:
    looks = [(0, 0), (15, 3), (14.9, 2.98), (30, 6)]
    assert rates_of(*looks) == [None, *[SECOND // 5] * 3]


def test_it_begins_anew_after_a_break() -> None:
    assert rates_of((0, 100), (15, 1), (30, 4)) == [None, None, SECOND // 5]
    assert rates_of((0, 1), (-60, 1.5), (-45, 4.5)) == [None, None, SECOND // 5]
    assert rates_of((0, 1), (3600, 2), (3615, 5)) == [None, None, SECOND // 5]


def test_what_is_gone_is_forgotten() -> None:
    rates = CpuRates()
    for key in ("c1", "c2"):
        rates.observe(key, at=START, used=0)
    rates.keep(["c2"])
    later = START + 15 * SECOND
    assert rates.observe("c1", at=later, used=SECOND) is None
    assert rates.observe("c2", at=later, used=3 * SECOND) == SECOND // 5


@given(st.lists(st.integers(0, 2 * LONGEST // SECOND), min_size=1, max_size=60))
def test_a_steady_rate_is_what_is_seen(gaps: list[int]) -> None:
    rates, at = CpuRates(), START
    rates.observe("c1", at=at, used=0)
    for gap in gaps:
        at += gap * SECOND
        rate = rates.observe("c1", at=at, used=(at - START) // 2)
        is_known = SHORTEST <= gap * SECOND <= LONGEST
        assert rate == SECOND // 2 or (rate is None and not is_known)
