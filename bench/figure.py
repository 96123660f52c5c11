"""What a measurement yields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One figure of one run."""

    name: str
    value: float
    unit: str
