"""Checks of a running service, told as Kubernetes components tell theirs."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How a check came out."""

    OK = "+"
    PENDING = "!"
    """Something is to be done yet, and serving goes on meanwhile: the service is ready."""
    FAILED = "-"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check found; the sentence is for people, and holds no secret."""

    verdict: Verdict
    sentence: str = ""


OK = Outcome(Verdict.OK)

Check = Callable[[], Awaitable[Outcome]]
"""Looks once. Does not raise, and ends within a deadline of its own."""


def failed_unless(holds: bool, sentence: str) -> Outcome:
    """OK where it holds; else the sentence says what is wrong."""
    return OK if holds else Outcome(Verdict.FAILED, sentence)


def pending_unless(holds: bool, sentence: str) -> Outcome:
    """The sentence says how far it has come, either way."""
    return Outcome(Verdict.OK if holds else Verdict.PENDING, sentence)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes of all checks, by name and in order; an excluded one has None."""

    outcomes: Mapping[str, Outcome | None]

    @property
    def is_healthy(self) -> bool:
        """Whether no check has failed."""
        return all(one is None or one.verdict is not Verdict.FAILED for one in self._all)

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to tell: every check is ok."""
        return all(one is None or one.verdict is Verdict.OK for one in self._all)

    @property
    def _all(self) -> Collection[Outcome | None]:
        return self.outcomes.values()

    def lines(self, title: str) -> str:
        """A line for each check, as ``[+]ping ok``, and one for all of them."""
        told = "passed" if self.is_healthy else "failed"
        lines = [_line(name, outcome) for name, outcome in self.outcomes.items()]
        return "".join(f"{line}\n" for line in (*lines, f"{title} check {told}"))


async def run_checks(checks: Mapping[str, Check], *, excluded: Collection[str] = ()) -> Report:
    """Look at everything, one after the other."""
    return Report(
        {name: None if name in excluded else await check() for name, check in checks.items()}
    )


def _line(name: str, outcome: Outcome | None) -> str:
    if outcome is None:
        return f"[+]{name} excluded: ok"
    word = {
        Verdict.OK: "ok",
        Verdict.PENDING: "pending, while serving goes on",
        Verdict.FAILED: "failed",
    }[outcome.verdict]
    told = f": {outcome.sentence}" if outcome.sentence else ""
    return f"[{outcome.verdict.value}]{name} {word}{told}"
