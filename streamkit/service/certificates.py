"""The certificates in use: loaded again when their files change, and told before they expire.

A file that can't be used, and one that is being written at the moment, changes nothing: what was
loaded before stays in use, and the next change of the files is another chance.
"""

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.metrics_core import Metric

from streamkit.errors import CertError
from streamkit.pki.contexts import combined
from streamkit.pki.inspect import inspect_file
from streamkit.service.health import OK, Outcome, Verdict
from streamkit.service.logs import one_line
from streamkit.service.metrics import counter, gauges

log = logging.getLogger(__name__)

WARNING_DAYS = 30
"""Days before a certificate's end from which on it is told; of one that is good for less than four
times as long, it is the last quarter of its time."""
_LOOK = 10.0
"""Seconds between two looks at the files."""
_TELLING = 86400.0
"""Seconds between two log lines about the same certificate."""
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class _Validity:
    """When a certificate begins and ends, in seconds since 1970."""

    path: Path
    begin: float
    end: float

    @property
    def told_from(self) -> float:
        return self.end - min(WARNING_DAYS * _DAY, (self.end - self.begin) / 4)


@dataclass(frozen=True, slots=True)
class TlsEnd:
    """Something that shows a certificate.

    ``roles`` are the certificates that it needs, by their role; that of a CA ends in ``ca``.
    ``make`` makes its TLS context of them and of the key, and raises CertError where it can't.
    ``use`` is given the context for whatever connects from then on.
    """

    name: str
    roles: Mapping[str, Path]
    key: Path
    make: Callable[[], ssl.SSLContext]
    use: Callable[[ssl.SSLContext], None]

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [*self.roles.values(), self.key]


@dataclass(slots=True)
class _Kept:
    end: TlsEnd
    seen: Sequence[object]
    trouble: str = ""


class Certificates:
    """Those of one service.

    Of a file with several certificates the last to expire counts for a CA, the first one otherwise.
    """

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._found: dict[str, _Validity] = {}
        self._loads: Counter[tuple[str]] = Counter({("loaded",): 0, ("refused",): 0})

    def keep(self, *ends: TlsEnd) -> list[ssl.SSLContext]:
        """Their contexts, which are made again, and given to their ends, when a file changes.

        Raises CertError, with a line for each problem of all of them.
        """
        contexts: list[ssl.SSLContext] = []
        problems: list[CertError] = []
        for end in ends:
            kept = _Kept(end, _state(end.paths))
            try:
                contexts.append(end.make())
            except CertError as error:
                problems.append(error)
                continue
            self._kept.append(kept)
            self._note(end)
        if problems:
            raise combined(problems)
        return contexts

    async def run(self, asked: asyncio.Event) -> None:
        """Look at the files now and then, and whenever it is ``asked`` for, until cancelled.

        Certificates that are about to expire are told at once, and each day again.
        """
        loop = asyncio.get_running_loop()
        telling = loop.time()
        while True:
            if self.look() or loop.time() >= telling:
                telling = loop.time() + _TELLING
                for sentence in self._soon():
                    log.warning("%s", sentence)
            asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await asked.wait()

    def look(self) -> bool:
        """Load what has changed; whether anything was loaded."""
        loaded = [kept for kept in self._kept if self._has_changed(kept) and self._load(kept)]
        return bool(loaded)

    async def check(self) -> Outcome:
        """Failed while a certificate has expired; pending while one soon does, or can't be used."""
        now = time.time()
        told = "; ".join([*self._soon(), *(kept.trouble for kept in self._kept if kept.trouble)])
        if any(each.end <= now for each in self._found.values()):
            return Outcome(Verdict.FAILED, told)
        return Outcome(Verdict.PENDING, told) if told else OK

    def metrics(self, prefix: str) -> Iterator[Metric]:
        """When they expire, and how often their files were loaded again."""
        yield gauges(
            f"{prefix}_certificate_expiry_timestamp_seconds",
            "When a certificate in use expires, in seconds since 1970.",
            "role",
            {role: each.end for role, each in self._found.items()},
        )
        text = "Changed certificate files that were loaded while the service ran, or refused."
        yield counter(f"{prefix}_certificate_loads", text, ("outcome",), self._loads.items())

    def _has_changed(self, kept: _Kept) -> bool:
        # Before they are read: what is written meanwhile is another change.
        before, kept.seen = kept.seen, _state(kept.end.paths)
        return before != kept.seen

    def _load(self, kept: _Kept) -> bool:
        end = kept.end
        try:
            context = end.make()
        except CertError as error:
            self._loads["refused",] += 1
            kept.trouble = f"the new certificates of the {end.name} can't be used: {error}"
            log.warning("%s; the old ones stay in use [%s]", one_line(kept.trouble), error.code)
            return False
        self._loads["loaded",] += 1
        kept.trouble = ""
        end.use(context)
        self._note(end)
        log.info("the %s has its new certificates", end.name)
        return True

    def _note(self, end: TlsEnd) -> None:
        with contextlib.suppress(CertError):  # which can only be a change since they were loaded
            for role, path in end.roles.items():
                self._found[role] = _validity(role, path)

    def _soon(self) -> list[str]:
        """A sentence for each certificate that soon expires, or has expired."""
        now = time.time()
        return [
            _sentence(role, each, now)
            for role, each in sorted(self._found.items(), key=lambda item: item[1].end)
            if now >= each.told_from
        ]


def _sentence(role: str, validity: _Validity, now: float) -> str:
    kind = "CA" if role.endswith("ca") else "certificate"
    left = validity.end - now
    day = datetime.fromtimestamp(validity.end, UTC)
    when = f"expires in {left // _DAY:.0f} days, on" if left > 0 else "has expired, on"
    return f"the {kind} {role} ({validity.path}) {when} {day:%Y-%m-%d}"


def _validity(role: str, path: Path) -> _Validity:
    found = inspect_file(path)
    last = max(found, key=lambda each: each.not_after) if role.endswith("ca") else found[0]
    return _Validity(path, last.not_before.timestamp(), last.not_after.timestamp())


def _state(paths: Sequence[Path]) -> list[object]:
    """What changes whenever a file does, be it written, replaced, or behind another link."""
    return [_identity(path) for path in paths]


def _identity(path: Path) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns
