"""The demo: kubectl's debugging commands on pods behind the tunnel, each result checked.

Commands and their output are shown as a user would see them.
"""

import hashlib
import os
import re
import subprocess
import sys
import time

from lab.conversation import Conversation
from lab.environment import Environment
from lab.programs import LabError

COMMAND_TIMEOUT = 30.0
ANSWER_TIMEOUT = 15.0
FOLLOW_SECONDS = 2.0
UPLOAD_BYTES = 1024 * 1024
ROWS, COLUMNS = 33, 101
TALKER_BACKLOG = 5000

_BOLD, _PLAIN = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")


def run_demo(environment: Environment) -> None:
    """Start the lab, go through all steps, take the lab down in any case.

    Raises LabError, naming the step, for the first one whose result is not as it should be.
    """
    begin = time.monotonic()
    try:
        environment.up()
        demo = _Demo(environment.kubectl_environment())
        steps = {
            "logs": demo.logs,
            "logs -f": demo.follow,
            "exec, exit code": demo.exit_code,
            "exec, stdin": demo.upload,
            "exec -it": demo.terminal,
            "attach": demo.attach,
        }
        for title, step in steps.items():
            print(f"\n{_BOLD}== {title}{_PLAIN}", flush=True)
            try:
                print(f"-- ok: {step()}", flush=True)
            except (LabError, subprocess.TimeoutExpired) as error:
                raise LabError(f"demo step '{title}' failed: {error}") from error
        print(flush=True)
    finally:
        environment.down()
    seconds = time.monotonic() - begin
    print(f"demo: {len(steps)} of {len(steps)} steps passed, in {seconds:.0f} s")


class _Demo:
    """The steps. Each raises LabError, or says in a few words what it found."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._kubectl = environment["KUBECTL"]

    def logs(self) -> str:
        """The last lines, and then all of them, with none missing."""
        _show("kubectl logs talker --tail=5")
        text = self._run("logs", "talker", "--tail=5", show=True).stdout.decode()
        _require(len(_numbers(text)) == 5, "those are not the five lines asked for")
        _show("kubectl logs talker | wc -l")
        numbers = _numbers(self._run("logs", "talker").stdout.decode())
        print(len(numbers))
        _require(len(numbers) >= TALKER_BACKLOG, f"at least {TALKER_BACKLOG} lines were expected")
        _require(sorted(numbers) == list(range(1, len(numbers) + 1)), "the lines have gaps")
        return f"lines 1 to {len(numbers)}, each of them once"

    def follow(self) -> str:
        """New lines as they come."""
        _show(f"kubectl logs talker -f --tail=1    # Ctrl-C after {FOLLOW_SECONDS:g} s")
        with self._talk("logs", "talker", "-f", "--tail=1") as talk:
            talk.wait_for(r"^line \d+$", ANSWER_TIMEOUT)
            talk.listen(FOLLOW_SECONDS)
            talk.wait_for(r"^line \d+$", ANSWER_TIMEOUT)
            talk.interrupt()
            talk.finish(ANSWER_TIMEOUT)
        numbers = sorted(_numbers(talk.output))
        first, last = numbers[0], numbers[-1]
        _require(numbers == list(range(first, last + 1)), "the followed lines have gaps")
        return f"lines {first} to {last}, while they were written"

    def exit_code(self) -> str:
        """The remote command's exit code becomes kubectl's."""
        _show("kubectl exec shell -- sh -c 'echo hello from $(hostname); exit 7'; echo $?")
        script = "echo hello from $(hostname); exit 7"
        done = self._run("exec", "shell", "--", "sh", "-c", script, expected=7, show=True)
        print(done.returncode)
        _require(done.stdout == b"hello from shell\n", "that is not what the command printed")
        return "exit code 7 came through"

    def upload(self) -> str:
        """Bytes up into a container and back."""
        blob = os.urandom(UPLOAD_BYTES)
        sent = hashlib.sha256(blob).hexdigest()
        _show(f"head -c {UPLOAD_BYTES} /dev/urandom > blob; sha256sum < blob")
        print(sent)
        _show("kubectl exec -i cat -- cat < blob | sha256sum")
        done = self._run("exec", "-i", "cat", "--", "cat", stdin=blob)
        received = hashlib.sha256(done.stdout).hexdigest()
        print(received)
        _require(received == sent, f"{len(done.stdout)} bytes came back, and they differ")
        return f"{len(done.stdout)} bytes there and back"

    def terminal(self) -> str:
        """A shell on a terminal, which has the size of ours."""
        _show(f"kubectl exec -it shell -- sh    # on a terminal of {ROWS} x {COLUMNS}")
        with self._talk("exec", "-it", "shell", "--", "sh", terminal=(ROWS, COLUMNS)) as talk:
            talk.wait_for("# $", ANSWER_TIMEOUT)
            for typed, answer in (
                ("stty size", f"^{ROWS} {COLUMNS}$"),
                ("echo $((6 * 7))", "^42$"),
            ):
                talk.type(f"{typed}\n")
                talk.wait_for(answer, ANSWER_TIMEOUT)
                talk.wait_for("# $", ANSWER_TIMEOUT)
            talk.type("exit 5\n")
            code = talk.finish(ANSWER_TIMEOUT)
        _require(code == 5, f"exit code 5 was expected, not {code}")
        return "the prompt, the size of the terminal, an answer, the exit code"

    def attach(self) -> str:
        """To the process that runs in the container already."""
        line = "hello, running process"
        _show(f"kubectl attach -i cat    # typing '{line}', then Ctrl-C")
        with self._talk("attach", "-i", "cat") as talk:
            talk.type(f"{line}\n")
            talk.wait_for(f"^{line}$", ANSWER_TIMEOUT)
            talk.interrupt()
            talk.finish(ANSWER_TIMEOUT)
        return "the container's own process answered"

    def _run(
        self, *arguments: str, stdin: bytes = b"", expected: int = 0, show: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        """Run kubectl to its end, and show what it printed; its stdout only if it is asked for.

        Raises LabError for another exit code than the one expected.
        """
        done = subprocess.run(
            [self._kubectl, *arguments],
            input=stdin,
            capture_output=True,
            env=self._environment,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        shown = done.stdout + done.stderr if show else done.stderr
        print(shown.decode(errors="replace"), end="")
        _require(
            done.returncode == expected,
            f"kubectl {arguments[0]} ended with exit code {done.returncode}, not {expected}",
        )
        return done

    def _talk(self, *arguments: str, terminal: tuple[int, int] | None = None) -> Conversation:
        return Conversation([self._kubectl, *arguments], self._environment, terminal=terminal)


def _show(command: str) -> None:
    print(f"{_BOLD}$ {command}{_PLAIN}", flush=True)


def _require(met: bool, sentence: str) -> None:
    if not met:
        raise LabError(sentence)


def _numbers(text: str) -> list[int]:
    """The numbers of the talker's lines."""
    return [int(number) for number in re.findall(r"^line (\d+)$", text, re.MULTILINE)]
