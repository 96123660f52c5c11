"""The link between cloud and edge is cut, closed or silent, in the middle of things."""

import contextlib
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.background import Background
from tests.e2e.conftest import NewStack
from tests.e2e.footprint import Footprint, processes
from tests.e2e.kubectl import Talk, tell
from tests.e2e.refused import SOON
from tests.e2e.stack import wait_until
from tests.e2e.trouble import Trouble, trouble
from tests.e2e.websocket import session

WAYS = ("cut", "close", "swallow")
TIMES = 3
RATE = 8_000_000.0
"""Bytes per second over the link, so that what is copied is under way for a while."""
SLOW_RATE = 2_000_000.0
"""With which it is under way for longer than a client waits to ping, five seconds."""
BETWEEN = 3_000_000
"""Bytes that pass from one trouble to the next."""
LAST_NUMBER = 2_200_000
LAST_OF_EXIT = 1_000_000
EXITS = int(os.environ.get("E2E_EXITS", "1"))
"""How often a command exits while its input arrives."""
SIZE = 20_000_000
COPYING = ("tar", "-xmf", "-", "-C", "/tmp")
"""What ``kubectl cp`` has executed."""


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


def make_while_carrying(patient: Trouble, way: str) -> None:
    """Make the trouble again and again, each time when some more has been carried."""
    for _ in range(TIMES):
        patient.wait_until_carried(BETWEEN)
        patient.make(way)


@pytest.mark.parametrize("way", WAYS)
def test_output_of_a_command(patient: Trouble, way: str) -> None:
    with patient.stack.kubectl.talk("exec", "cat", "--", "seq", "1", str(LAST_NUMBER)) as talk:
        make_while_carrying(patient, way)
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


@pytest.mark.parametrize("time", range(EXITS))
def test_output_that_is_long_under_way_while_input_arrives(patient: Trouble, time: int) -> None:
    patient.link.rate = SLOW_RATE
    script = f"seq 1 {LAST_OF_EXIT}; exit 7"
    has_ended = threading.Event()

    def type_on(talk: Talk) -> None:
        with contextlib.suppress(OSError):
            while not has_ended.wait(0.01):
                talk.send(b"x" * 10)

    try:
        with (
            patient.stack.kubectl.talk("exec", "-i", "cat", "--", "sh", "-c", script) as talk,
            ThreadPoolExecutor(1) as thread,
        ):
            thread.submit(type_on, talk)
            try:
                done = talk.finish()
            finally:
                has_ended.set()
    finally:
        patient.link.rate = RATE
    assert done.code == 7, done.err
    assert "command terminated with exit code 7\n" in done.err
    assert len(done.lines) == LAST_OF_EXIT


@pytest.mark.parametrize("way", WAYS)
def test_a_file_on_its_way_up(patient: Trouble, tmp_path: Path, way: str) -> None:
    file, kubectl = tmp_path / "file", patient.stack.kubectl
    file.write_bytes(os.urandom(SIZE))
    with kubectl.talk("cp", str(file), f"cat:/tmp/{way}") as talk:
        make_while_carrying(patient, way)
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


@pytest.mark.parametrize(
    ("way", "sentence"),
    [("cut", "the edge's connection broke"), ("swallow", "the peer was silent for 1.5 s")],
)
def test_a_link_that_stays_away(
    impatient: Trouble, tmp_path: Path, way: str, sentence: str
) -> None:
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
        session(stack.layout, "cat", "cat", "/dev/stdin") as over_websocket,
        session(stack.layout, "cat", "wc", "-c") as sent_over_websocket,
    ):
        for each in (executed, over_websocket):
            each.send(b"hello\n")
            each.wait_for(b"hello\n")
        followed.wait_for(b"line ")
        link.rate = RATE
        with stack.kubectl.talk("cp", str(file), "cat:/tmp/never") as copied:
            wait_until(lambda: bool(processes(*COPYING)), "the copy")
            sent_over_websocket.send_without_end()
            impatient.wait_until_carried(BETWEEN)
            loop.call(getattr(link, way))
            ended = [talk.finish(SOON) for talk in (executed, copied, followed)]
            statuses = [each.status(SOON) for each in (over_websocket, sent_over_websocket)]
    loop.call(link.heal)
    for done in ended:
        tell(f"exit {done.code} after {done.seconds:.1f} s: {done.err}")
    tell(str(statuses))
    assert [done.code for done in ended] == [1, 1, 0]
    sentence += ", and it did not come back within 1 s"
    for error in (ended[0].err, ended[1].err, *(status["message"] for status in statuses)):
        assert f"the session was lost: {sentence}" in error
    assert sentence in ended[2].lines[-1]
    assert [status["status"] for status in statuses] == ["Failure"] * 2
    seconds = wait_until(lambda: stack.kubectl("logs", "failer").code == 0, "kubectl logs")
    tell(f"works {seconds:.1f} s after the link; open files {before.wait_until_back():.1f} s later")
    commands = (("cat", "/dev/stdin"), ("wc", "-c"), COPYING)
    seconds = wait_until(lambda: not any(processes(*each) for each in commands), "their end")
    tell(f"what was executed has ended {seconds:.1f} s later")
