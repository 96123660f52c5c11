"""Commands that have to fail soon."""

from tests.e2e.kubectl import Kubectl, Outcome, tell

SOON = 10.0
"""Seconds that a failure may take at most, on a busy machine; three are the aim."""

COMMANDS = {"logs": ("logs",), "exec": ("exec", "-i"), "attach": ("attach", "-i")}
"""Following is not among them: kubectl 1.36 and later tell what is wrong, and then try again."""


def refused(kubectl: Kubectl, command: str, pod: str, container: str = "") -> Outcome:
    """Run one of COMMANDS, which has to fail soon, with a sentence and nothing else."""
    arguments = [*COMMANDS[command], pod, "-c", container or pod]
    if command == "exec":
        arguments += ["--", "cat"]
    done = kubectl(*arguments, deadline=SOON)
    lines = [line for line in done.err.splitlines() if "command prompt" not in line]
    tell(f"{command} {pod}: {done.seconds:.1f} s: {' '.join(lines)}")
    assert (done.code, done.out) == (1, b"")
    assert len(lines) == 1
    return done
