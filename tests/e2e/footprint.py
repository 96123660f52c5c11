"""What processes hold: open files, by kind."""

import contextlib
import os
import re
import time
from collections import Counter

from lab import leftovers
from lab.programs import run
from tests.e2e.stack import wait_until

DEADLINE = 60.0
SETTLED = 1.0

RUNTIME = "containerd"
"""The name of the process that may be slow to close sockets of which the other end has closed: it
waits half a minute for the streams of a client that left before it had opened them all."""


class Footprint:
    """The open files of some processes, once they have stopped to open and close any."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._files = self._now()
        self._since = time.monotonic()
        wait_until(self._is_settled, f"{SETTLED:g} s without a change of open files", DEADLINE)

    def wait_until_back(self) -> float:
        """Wait until none of the processes has more open than it had; the seconds it took."""
        try:
            return wait_until(lambda: not self._excess(), "open files as before", DEADLINE)
        except AssertionError:
            raise AssertionError(f"still open: {self._excess()}") from None

    def _is_settled(self) -> bool:
        if (files := self._now()) != self._files:
            self._files, self._since = files, time.monotonic()
        return time.monotonic() - self._since > SETTLED

    def _now(self) -> dict[str, Counter[str]]:
        found = {name: _open_files(pid) for name, pid in self._pids.items()}
        if RUNTIME in found:
            closing = run("ss", "--no-header", "-t", "-a", "-n", "-p", "state", "close-wait")
            found[RUNTIME]["socket"] -= closing.count(f"pid={self._pids[RUNTIME]},")
        return found

    def _excess(self) -> dict[str, Counter[str]]:
        more = {name: files - self._files[name] for name, files in self._now().items()}
        return {name: files for name, files in more.items() if files}


def _open_files(pid: int) -> Counter[str]:
    """How many files a process has open, by path; sockets and pipes have none."""
    found: Counter[str] = Counter()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[re.sub(r":\[\d+\]$", "", os.readlink(f"/proc/{pid}/fd/{number}"))] += 1
    return found


def processes(*command: str) -> list[int]:
    """The processes that have been started with exactly that command line."""
    return [pid for pid in leftovers.all_pids() if leftovers.arguments_of(pid) == list(command)]
