"""Programs of the lab that run in the background."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lab import leftovers
from lab.layout import HOST
from lab.programs import ENVIRONMENT, LabError

POLL_INTERVAL = 0.05
STOP_TIMEOUT = 10.0
SHOWN_LINES = 15


class PartFailed(LabError):
    """A part of the lab could not be started; ``logs`` are where the reason may be found."""

    def __init__(self, sentence: str, *logs: Path) -> None:
        super().__init__(sentence)
        self.logs = logs

    def last_words(self) -> str:
        """The last lines of each log."""
        parts = []
        for log in self.logs:
            with contextlib.suppress(FileNotFoundError):
                lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
                parts.append("\n".join([f"--- {log}", *(lines or ["(empty)"])]))
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Service:
    """A program that is known by its configuration file: whatever runs with that file is it."""

    name: str
    pid_variable: str
    command: tuple[str, ...]
    config: Path
    log: Path
    ports: tuple[int, ...] = ()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, so that it outlives whoever starts it."""
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [*self.command, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """The processes that run it, also those that somebody started by hand."""
        return [pid for pid in leftovers.all_pids() if self._is_run_by(pid)]

    def wait_until(
        self,
        ready: Callable[[], bool],
        process: subprocess.Popen[bytes],
        timeout: float,
        fault: str,
        *more_logs: Path,
    ) -> None:
        """Wait, ``timeout`` seconds at most; PartFailed if it ends or is not ready by then.

        ``fault`` says what it fails to do, ``more_logs`` where else the reason may be found.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if process.poll() is not None:
                raise PartFailed(f"{self.name} ended", self.log, *more_logs)
            if time.monotonic() > deadline:
                sentence = f"{self.name} {fault} after {timeout:g} s"
                raise PartFailed(sentence, self.log, *more_logs)
            time.sleep(POLL_INTERVAL)

    def listens(self) -> bool:
        """Whether all of its ports take connections."""
        return all(map(_is_open, self.ports))

    def end(self) -> bool:
        """End all processes that run it, and say whether there was one.

        They are asked first, and killed if they are still there after ``STOP_TIMEOUT`` seconds.
        """
        pids = self.pids()
        for pid in pids:
            leftovers.end_process(pid, self._is_run_by, grace=STOP_TIMEOUT)
        return bool(pids)

    def _is_run_by(self, pid: int) -> bool:
        arguments = leftovers.arguments_of(pid)
        named = [value for option, value in pairwise(arguments) if option == "--config"]
        named += [each.removeprefix("--config=") for each in arguments if "--config=" in each]
        with contextlib.suppress(OSError):  # it may end at any time
            directory = Path(f"/proc/{pid}/cwd").readlink()
            return self.config in [(directory / name).resolve() for name in named]
        return False


def _is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
