"""A clock that a test moves."""

from types import ModuleType

import pytest


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def clock_of(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that this module looks at from now on, for the length of the test."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock
