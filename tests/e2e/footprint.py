"""What processes hold: open files by kind, watches, threads; what a runtime executes."""

import contextlib
import os
import re
import time
from collections import Counter
from pathlib import Path

from edgestream.kubelet.cri_backend import THREADS
from lab import leftovers
from lab.containerd import SHIM
from tests.e2e.stack import wait_until

DEADLINE = 60.0
SETTLED = 1.0

RUNTIME = "containerd"
"""The name of the process that may be slow to close sockets of which the other end has closed, in
good order or by a reset: it waits half a minute for the streams of a client that left before it had
opened them all. Its threads are its language's own business."""

_CLOSE_WAIT = "08"  # include/net/tcp_states.h
_INODES = {"tcp": 9, "tcp6": 9, "udp": 9, "udp6": 9, "unix": 6, "netlink": 9}
"""Tables of sockets below /proc/<pid>/net, and the column of each that has the inode."""

POOLED = min(32, (os.cpu_count() or 1) + 4) + 2 * THREADS + 1
"""Threads that wait for work, at most: asyncio's and the edge agent's own, of which one is for the
networks of pods."""


class Footprint:
    """What some processes hold, once they have stopped to take and release anything."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._files = self._now()
        self._since = time.monotonic()
        wait_until(self._is_settled, f"{SETTLED:g} s without a change", DEADLINE)

    def wait_until_back(self) -> float:
        """Wait until none of the processes holds more than it did; the seconds it took."""
        try:
            return wait_until(lambda: not self._excess(), "as much as before", DEADLINE)
        except AssertionError:
            raise AssertionError(f"still there: {self._excess()}") from None

    def _is_settled(self) -> bool:
        if (files := self._now()) != self._files:
            self._files, self._since = files, time.monotonic()
        return time.monotonic() - self._since > SETTLED

    def _now(self) -> dict[str, Counter[str]]:
        found = {name: _open_files(pid) for name, pid in self._pids.items()}
        for name, pid in self._pids.items():
            if name == RUNTIME:
                found[name]["socket"] -= _left_sockets(pid)
                found[name]["processes in containers"] = _in_containers(pid)
            else:
                threads = len(os.listdir(f"/proc/{pid}/task"))
                found[name]["threads"] = max(0, threads - POOLED)
        return found

    def _excess(self) -> dict[str, Counter[str]]:
        more = {name: files - self._files[name] for name, files in self._now().items()}
        return {name: files for name, files in more.items() if files}


def _open_files(pid: int) -> Counter[str]:
    """How many files a process has open, by path; sockets and pipes have none. And its watches."""
    found: Counter[str] = Counter()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[re.sub(r":\[\d+\]$", "", os.readlink(f"/proc/{pid}/fd/{number}"))] += 1
            about = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
            found["inotify watches"] += about.count("inotify wd:")
    return found


def _left_sockets(pid: int) -> int:
    """How many sockets a process has open of which the other end has closed."""
    live = set()
    for table, column in _INODES.items():
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if not (table.startswith("tcp") and fields[3] == _CLOSE_WAIT):
                live.add(f"socket:[{fields[column]}]")
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            name = os.readlink(link)
            # One that was reset stands in no table any more.
            count += name.startswith("socket:") and name not in live
    return count


def _in_containers(pid: int) -> int:
    """How many processes a containerd has started in its containers, their own ones included."""
    base = str(Path(leftovers.arguments_of(pid)[-1]).parent)
    count = 0
    for shim in leftovers.all_pids():
        arguments = leftovers.arguments_of(shim)
        if arguments and Path(arguments[0]).name == SHIM and f"{base}/containerd.sock" in arguments:
            with contextlib.suppress(FileNotFoundError):
                children = Path(f"/proc/{shim}/task").glob("*/children")
                count += sum(len(each.read_text().split()) for each in children)
    return count


def processes(*command: str) -> list[int]:
    """The processes that have been started with exactly that command line."""
    return [pid for pid in leftovers.all_pids() if leftovers.arguments_of(pid) == list(command)]
