"""How many processors something keeps busy, from its processor time at two moments."""

from collections.abc import Collection
from dataclasses import dataclass

WINDOW = 10 * 10**9
"""The span of time that a rate is of: at least this where there are looks enough, under twice it
where they come often."""

SHORTEST = 10**9
"""Rates over less than this tell nothing."""

LONGEST = 600 * 10**9
"""A look as long ago as this is no basis for what goes on now."""


@dataclass(frozen=True, slots=True)
class _Look:
    at: int
    used: int


class CpuRates:
    """Remembers earlier looks, so that whoever looks moves nobody else's window."""

    def __init__(self) -> None:
        self._looks: dict[str, tuple[_Look, _Look]] = {}

    def observe(self, key: str, *, at: int, used: int) -> int | None:
        """The rate in billionths of a processor; None at first sight, and after a break.

        ``used`` is the processor time so far, ``at`` the moment of that look, in nanoseconds both.
        It is a break when time or counter runs backwards, or when there was no look for long.
        """
        look = _Look(at, used)
        older, newer = self._looks.get(key, (look, look))
        # A look may be told after a later one, by whoever looked at the same time.
        if not (older.at <= at < newer.at and older.used <= used <= newer.used):
            if at < newer.at or used < newer.used or at - newer.at > LONGEST:
                older = newer = look
            if at - newer.at >= WINDOW:
                older, newer = newer, look
            self._looks[key] = older, newer
        span = at - older.at
        return (used - older.used) * 10**9 // span if span >= SHORTEST else None

    def keep(self, keys: Collection[str]) -> None:
        """Forget everything else."""
        for key in self._looks.keys() - set(keys):
            del self._looks[key]
