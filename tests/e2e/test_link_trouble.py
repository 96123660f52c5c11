"""The link between cloud and edge is cut, closed or silent, in the middle of things."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.background import Background
from tests.e2e.conftest import NewStack
from tests.e2e.footprint import Footprint, processes
from tests.e2e.kubectl import tell
from tests.e2e.refused import SOON
from tests.e2e.stack import Stack, wait_until
from tests.support.link import Link, link_to

WAYS = ("cut", "close", "swallow")
TIMES = 3
RATE = 8_000_000.0
"""Bytes per second over the link, so that what is copied is under way for a while."""
SLOW_RATE = 2_000_000.0
"""With which it is under way for longer than a client waits to ping, five seconds."""
BETWEEN = 3_000_000
"""Bytes that pass from one trouble to the next."""
LAST_NUMBER = 2_200_000
SIZE = 20_000_000


@dataclass(frozen=True, slots=True)
class Trouble:
    """A stack whose edge reaches its cloud over a link, and the link, in which to make trouble."""

    stack: Stack
    link: Link
    loop: Background

    def make(self, way: str) -> None:
        """End whatever tunnel there is, and wait until the edge has another one."""
        connected = self._tunnels()
        if way == "swallow":
            silent = self.stack.edge.log_text.count("was silent")
            self.loop.call(self.link.swallow)
            self.stack.edge.wait_for_log("was silent", times=silent + 1)
        else:
            self.loop.call(getattr(self.link, way))
        self.loop.call(self.link.heal)
        wait_until(lambda: self._tunnels() > connected, "another tunnel")

    def make_while_carrying(self, way: str) -> None:
        """Make the trouble again and again, each time when some more has been carried."""
        for _ in range(TIMES):
            self.wait_until_carried(BETWEEN)
            self.make(way)

    def wait_until_carried(self, size: int) -> None:
        """Wait until the link has carried so many more bytes."""
        goal = self.link.carried + size
        wait_until(lambda: self.link.carried > goal, f"{size} bytes over the link")

    def _tunnels(self) -> int:
        return self.stack.edge.log_text.count("speaking v2")


def trouble(loop: Background, new_stack: NewStack, *, resume_timeout: float) -> Trouble:
    """A stack that notices silence soon."""
    links: list[Link] = []

    def via(port: int) -> int:
        links.append(loop.enter(link_to(port)))
        return links[0].port

    cloud = {"heartbeat": 0.5, "heartbeatTimeout": 1.5, "resumeTimeout": resume_timeout}
    edge = {"heartbeat": 0.5, "resumeTimeout": resume_timeout}
    stack = new_stack(
        via=via,
        kube_api=False,
        cloud={"cloudstream": {"deadlines": cloud}},
        edge={
            "modules": {"edgeStream": {"readDeadline": 1}},
            "edgestream": {"deadlines": edge, "backoff": {"initial": 0.1, "maximum": 0.2}},
        },
    )
    return Trouble(stack, links[0], loop)


@pytest.fixture(scope="module")
def patient(loop: Background, new_stack: NewStack) -> Trouble:
    """With the usual time for an edge to come back."""
    made = trouble(loop, new_stack, resume_timeout=30)
    made.link.rate = RATE
    return made


@pytest.fixture(scope="module")
def impatient(loop: Background, new_stack: NewStack) -> Trouble:
    """With a second for an edge to come back."""
    return trouble(loop, new_stack, resume_timeout=1)


@pytest.mark.parametrize("way", WAYS)
def test_output_of_a_command(patient: Trouble, way: str) -> None:
    with patient.stack.kubectl.talk("exec", "cat", "--", "seq", "1", str(LAST_NUMBER)) as talk:
        patient.make_while_carrying(way)
        done = talk.finish()
    assert (done.code, done.err) == (0, "")
    assert done.out == "".join(f"{number}\n" for number in range(1, LAST_NUMBER + 1)).encode()


def test_output_that_is_long_under_way(patient: Trouble) -> None:
    patient.link.rate = SLOW_RATE
    try:
        done = patient.stack.kubectl("exec", "cat", "--", "seq", "1", str(LAST_NUMBER))
    finally:
        patient.link.rate = RATE
    assert (done.code, done.err) == (0, "")
    assert done.lines[-1] == str(LAST_NUMBER)
    assert len(done.lines) == LAST_NUMBER


@pytest.mark.parametrize("way", WAYS)
def test_a_file_on_its_way_up(patient: Trouble, tmp_path: Path, way: str) -> None:
    file, kubectl = tmp_path / "file", patient.stack.kubectl
    file.write_bytes(os.urandom(SIZE))
    with kubectl.talk("cp", str(file), f"cat:/tmp/{way}") as talk:
        patient.make_while_carrying(way)
        done = talk.finish()
    assert (done.code, done.err) == (0, "")
    found = kubectl.ok("exec", "cat", "--", "sha256sum", f"/tmp/{way}").out.decode().split()[0]
    assert found == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("way", WAYS)
def test_a_log_that_is_followed(patient: Trouble, way: str) -> None:
    lines: list[str] = []
    with patient.stack.kubectl.talk("logs", "-f", "--tail=1", "talker") as talk:
        for _ in range(TIMES + 1):
            lines = talk.wait_for_lines(len(lines) + 5)
            patient.make(way)
        lines = talk.wait_for_lines(len(lines) + 5)
    numbers = sorted(int(line.removeprefix("line ")) for line in lines)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_link_that_stays_away(impatient: Trouble, tmp_path: Path) -> None:
    stack, link, loop = impatient.stack, impatient.link, impatient.loop
    file = tmp_path / "file"
    file.write_bytes(os.urandom(SIZE))
    with stack.kubectl.talk("logs", "-f", "--tail=1", "talker") as first:
        first.wait_for_lines(3)  # the edge goes on to watch log files
    stack.kubectl.ok("logs", "failer")  # the API server keeps its connection
    before = Footprint(edge=stack.edge.pid, cloud=stack.cloud.pid)
    with (
        stack.kubectl.talk("exec", "-i", "cat", "--", "cat", "/dev/stdin") as executed,
        stack.kubectl.talk("logs", "-f", "--tail=1", "talker") as followed,
    ):
        executed.send(b"hello\n")
        executed.wait_for(b"hello\n")
        followed.wait_for(b"line ")
        link.rate = RATE
        with stack.kubectl.talk("cp", str(file), "cat:/tmp/never") as copied:
            impatient.wait_until_carried(BETWEEN)
            loop.call(link.cut)
            ended = [talk.finish(SOON) for talk in (executed, copied, followed)]
    for done in ended:
        tell(f"exit {done.code} after {done.seconds:.1f} s: {done.err}")
    assert [done.code for done in ended] == [1, 1, 0]
    sentence = "the edge's connection broke, and it did not come back within 1 s"
    assert f"the session was lost: {sentence}" in ended[0].err
    assert f"the session was lost: {sentence}" in ended[1].err
    assert sentence in ended[2].lines[-1]
    loop.call(link.heal)
    seconds = wait_until(lambda: stack.kubectl("logs", "failer").code == 0, "kubectl logs")
    tell(f"works {seconds:.1f} s after the link; open files {before.wait_until_back():.1f} s later")
    seconds = wait_until(lambda: not processes("cat", "/dev/stdin"), "the end of what was executed")
    tell(f"what was executed has ended {seconds:.1f} s later")
