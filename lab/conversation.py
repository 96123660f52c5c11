"""Talking to a program: type something, wait for an answer, see it end."""

import codecs
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Self

from lab.programs import LabError

CHUNK = 65536
END_TIMEOUT = 5.0

# What a program says to the terminal and not to its user, also where it has just begun to. Some of
# it is questions, which our own terminal would answer as if somebody typed.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BEGUN = re.compile(r"\x1b(\[[0-9;?]*)?\Z")


class Conversation:
    """A running program, on a terminal of its own or on pipes, whose output is shown as it comes.

    ``output`` is all of it so far, without what is meant for the terminal only.
    Use it as a context manager: the program has ended when the block is left.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        terminal: tuple[int, int] | None = None,
    ) -> None:
        """Start the program; ``terminal`` is (rows, columns), None means pipes.

        On pipes, its stderr is ours.
        """
        self.output = ""
        self._seen = 0  # how much of the output has been waited for
        self._begun = ""  # what may become a message to the terminal
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        stderr: int | None = None
        # A shell's background job ignores SIGINT, and its children inherit that.
        command = ["env", "--default-signal=INT", *command]
        if terminal:
            self._out, stdin = os.openpty()
            self._in, stdout, stderr = os.dup(self._out), stdin, stdin
            termios.tcsetwinsize(stdin, terminal)
            # setsid makes it the program's own terminal, so that it hears of Ctrl-C and the like.
            command = ["setsid", "--ctty", *command]
        else:
            stdin, self._in = os.pipe()
            self._out, stdout = os.pipe()
        try:
            self._process = subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment
            )
        finally:
            for fd in {stdin, stdout}:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(END_TIMEOUT)
        os.close(self._in)
        os.close(self._out)
        if self.output and not self.output.endswith("\n"):
            print(flush=True)

    def type(self, text: str) -> None:
        """Give it some input."""
        os.write(self._in, text.encode())

    def wait_for(self, pattern: str, timeout: float) -> str:
        """Wait until its output, from where the last wait ended, shows the pattern.

        Returns what matched; LabError after ``timeout`` seconds, or if it ends before.
        """
        deadline = time.monotonic() + timeout
        while not (match := re.compile(pattern, re.MULTILINE).search(self.output, self._seen)):
            if not self._read(deadline):
                late = time.monotonic() > deadline
                how = (
                    f"was not seen within {timeout:g} s" if late else "was not seen before it ended"
                )
                raise LabError(f"{pattern!r} {how}")
        self._seen = match.end()
        return match[0]

    def listen(self, seconds: float) -> None:
        """Take its output for that long, or until it ends."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self._process.send_signal(signal.SIGINT)

    def finish(self, timeout: float) -> int:
        """Wait for its end and return its exit code, negative for a signal; LabError if late."""
        self.listen(timeout)
        try:
            return self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"it did not end within {timeout:g} s") from error

    def _read(self, deadline: float) -> bool:
        """Take what there is, or the next output; False at the deadline and at the end."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._out], [], [], left)[0]:
            return False
        data = b""
        with contextlib.suppress(OSError):  # a terminal that nobody has open any more
            data = os.read(self._out, CHUNK)
        text = _CONTROL.sub("", self._begun + self._decode(data))
        self._begun = begun[0] if (begun := _BEGUN.search(text)) else ""
        text = text.removesuffix(self._begun).replace("\r\n", "\n")
        self.output += text
        sys.stdout.write(text)
        sys.stdout.flush()
        return bool(data)
