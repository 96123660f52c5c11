"""kubectl as users run it: to its end, or to talk to."""

import contextlib
import os
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

DEADLINE = 30.0
"""Seconds for a command that succeeds."""

_CHUNK = 65536


def tell(text: str) -> None:
    """Note what was measured; ``pytest -rP`` shows it."""
    sys.stdout.write(f"{text}\n")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: bytes
    err: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """What it printed."""
        return self.out.decode().splitlines()


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One kubectl, and the environment that tells it which API server to use."""

    binary: Path
    environment: Mapping[str, str]

    def __call__(self, *arguments: str, stdin: bytes = b"", deadline: float = DEADLINE) -> Outcome:
        """Run a command to its end, which must come before the deadline."""
        begin = time.monotonic()
        done = subprocess.run(
            [self.binary, *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=deadline,
            check=False,
        )
        seconds = time.monotonic() - begin
        return Outcome(done.returncode, done.stdout, done.stderr.decode(), seconds)

    def ok(self, *arguments: str, stdin: bytes = b"", deadline: float = DEADLINE) -> Outcome:
        """Run a command that has to succeed."""
        done = self(*arguments, stdin=stdin, deadline=deadline)
        assert done.code == 0, f"kubectl {' '.join(arguments)}: exit {done.code}: {done.err}"
        return done

    def talk(self, *arguments: str, terminal: tuple[int, int] | None = None) -> "Talk":
        """Start a command on pipes, or on a terminal of that many rows and columns."""
        return Talk([str(self.binary), *arguments], self.environment, terminal=terminal)


class Talk:
    """A running program. As a context manager it is killed where the block is left.

    ``out`` and ``err`` are what it has written so far; on a terminal all of it is in ``out``.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        terminal: tuple[int, int] | None = None,
    ) -> None:
        self.out, self.err = bytearray(), bytearray()
        self._seen = 0
        self._changed = threading.Condition()
        self._open = 0
        stream = subprocess.PIPE
        if terminal:
            self._terminal, stream = os.openpty()
            termios.tcsetwinsize(stream, terminal)
            command = ["setsid", "--ctty", *command]
        self.process = subprocess.Popen(
            command, stdin=stream, stdout=stream, stderr=stream, env=environment, bufsize=0
        )
        if terminal:
            os.close(stream)
            self._input = self._terminal
            sources = [(self._terminal, self.out)]
        else:
            stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
            assert stdin
            assert stdout
            assert stderr
            self._input = stdin.fileno()
            sources = [(stdout.fileno(), self.out), (stderr.fileno(), self.err)]
        self._open = len(sources)
        self._readers = [threading.Thread(target=self._read, args=each) for each in sources]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for reader in self._readers:
            reader.join(DEADLINE)
        if self.process.stdin:
            self.process.stdin.close()
        else:
            os.close(self._terminal)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def send(self, data: bytes) -> None:
        """Give it all of this as its input."""
        while data:
            data = data[os.write(self._input, data) :]

    def end_input(self) -> None:
        """There is no more input; not on a terminal."""
        assert self.process.stdin
        self.process.stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal."""
        termios.tcsetwinsize(self._terminal, (rows, columns))

    def wait_for(self, expected: bytes, deadline: float = DEADLINE) -> None:
        """Wait until it has written that, behind what was waited for before."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: self.out.find(expected, self._seen) >= 0 or not self._open, deadline
            )
            position = self.out.find(expected, self._seen)
            rest = bytes(self.out[self._seen :][-500:])
            when = "in time" if not found else "before it ended"
            assert position >= 0, f"{expected!r} did not come {when}: {rest!r} {bytes(self.err)!r}"
            self._seen = position + len(expected)

    def wait_for_lines(self, count: int, deadline: float = DEADLINE) -> list[str]:
        """Wait until it has written so many whole lines in all, and return all that there are."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.out.count(b"\n") >= count or not self._open, deadline
            )
            found = self.out.count(b"\n")
            assert found >= count, f"{found} lines came, {bytes(self.err)!r}"
            return self.out[: self.out.rindex(b"\n")].decode().splitlines() if found else []

    def finish(self, deadline: float = DEADLINE) -> Outcome:
        """Wait for its end; ``seconds`` are those that this took."""
        begin = time.monotonic()
        code = self.process.wait(deadline)
        for reader in self._readers:
            reader.join(deadline)
        err = self.err.decode(errors="replace")
        return Outcome(code, bytes(self.out), err, time.monotonic() - begin)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def _read(self, source: int, buffer: bytearray) -> None:
        with contextlib.suppress(OSError):  # a terminal that nobody has open any more
            while data := os.read(source, _CHUNK):
                with self._changed:
                    buffer += data
                    self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
