"""Pages in Prometheus's text format, as a kubelet writes it.

prometheus-client writes numbers in Python's way, doesn't sort families and cuts times to seconds.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Family:
    """One metric and its samples."""

    def __init__(self, name: str, kind: Literal["counter", "gauge"], text: str) -> None:
        self.name = name
        self._head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        self._samples: dict[str, str] = {}

    def add(
        self, value: float | None, labels: Mapping[str, str] | None = None, *, at: int | None = None
    ) -> None:
        """Add a sample, unless its value is not known; it replaces one of the same labels.

        ``at`` is in nanoseconds since 1970; without it the sample is as of when it is read.
        """
        if value is not None:
            pairs = sorted((labels or {}).items())
            named = ",".join(f'{name}="{text.translate(_ESCAPES)}"' for name, text in pairs)
            time = "" if at is None else f" {at // 10**6}"
            self._samples[f"{{{named}}}" if named else ""] = f"{go_float(value)}{time}"

    def lines(self) -> str:
        """The family as it stands on a page; nothing where it has no sample."""
        samples = [
            f"{self.name}{labels} {rest}\n" for labels, rest in sorted(self._samples.items())
        ]
        return self._head + "".join(samples) if samples else ""


def page(families: Iterable[Family]) -> bytes:
    """The page of these families, sorted by name."""
    ordered = sorted(families, key=lambda family: family.name)
    return "".join(family.lines() for family in ordered).encode()


def go_float(value: float) -> str:
    """The shortest digits that tell a finite number apart, arranged as by Go's ``%g``."""
    if not value:
        return "0"
    number = Decimal(repr(float(value))).normalize()
    power = number.adjusted()
    if -4 <= power < 6:
        return f"{number:f}"
    return f"{number.scaleb(-power).normalize():f}e{power:+03d}"
