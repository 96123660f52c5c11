"""The container runtime is frozen, or killed and started again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.containerd import Lab
from tests.e2e.conftest import NewStack
from tests.e2e.kubectl import Kubectl, tell
from tests.e2e.pods import run_pod
from tests.e2e.refused import COMMANDS, SOON, refused
from tests.e2e.stack import Program, wait_until


class Runtime:
    """A containerd of these tests' own, with the pod ``cat``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lab = Lab(directory)
        self._lab.up()
        self._lab.run_container(run_pod(self._lab, "cat"), "cat", ["cat"], stdin=True)
        command = Path(f"/proc/{self._lab.pid}/cmdline").read_text().split("\0")[:-1]
        self._again = Program(tuple(command), directory.with_suffix(".log"))

    def send_signal(self, number: int) -> None:
        """Send the daemon a signal; if it is a kill, it is dead when this returns."""
        assert self._lab.pid
        os.kill(self._lab.pid, number)
        if number == signal.SIGKILL:
            wait_until(lambda: self._lab.pid is None, "the end of containerd")

    def start_again(self) -> None:
        """Start the daemon again, which looks after its containers as before."""
        self._again.start()
        self.directory.joinpath("containerd.pid").write_text(str(self._again.pid))
        wait_until(lambda: bool(self._lab.status()), "containerd to answer again")

    def close(self) -> None:
        self._lab.down()
        self._again.close()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    found = Runtime(tmp_path_factory.mktemp("gone") / "containerd")
    yield found
    found.close()


@pytest.fixture(scope="module")
def kubectl(runtime: Runtime, new_stack: NewStack) -> Kubectl:
    return new_stack(runtime=runtime.directory, pods={"cat": ("cat",)}).kubectl


def test_a_frozen_runtime(kubectl: Kubectl, runtime: Runtime) -> None:
    runtime.send_signal(signal.SIGSTOP)
    try:
        for command in COMMANDS:
            done = refused(kubectl, command, "cat")
            assert "containerd.sock did not answer within" in done.err
    finally:
        runtime.send_signal(signal.SIGCONT)
    assert kubectl.ok("exec", "cat", "--", "echo", "back").out == b"back\n"


def test_a_killed_runtime(kubectl: Kubectl, runtime: Runtime) -> None:
    with kubectl.talk("exec", "-i", "cat", "--", "cat") as talk:
        talk.send(b"before\n")
        talk.wait_for(b"before\n")
        runtime.send_signal(signal.SIGKILL)
        done = talk.finish(SOON)
    tell(f"exec ended after {done.seconds:.1f} s: {done.err}")
    assert done.code == 1
    assert "the session was lost: " in done.err
    for command in COMMANDS:
        assert "the container runtime can't be reached on" in refused(kubectl, command, "cat").err
    runtime.start_again()
    assert kubectl.ok("exec", "cat", "--", "echo", "back").out == b"back\n"
