"""Either service ends in the middle of a session, in any way, and starts again."""

import signal

import pytest

from tests.e2e.conftest import NewStack
from tests.e2e.kubectl import tell
from tests.e2e.refused import SOON
from tests.e2e.stack import Program, Stack, wait_until

BACK = 15.0
"""Seconds until commands work again, on a busy machine; five are the aim."""


@pytest.fixture(scope="module")
def stack(new_stack: NewStack) -> Stack:
    return new_stack()


def wait_until_it_works(stack: Stack) -> None:
    """Wait until a log can be read again."""
    seconds = wait_until(lambda: stack.kubectl("logs", "failer").code == 0, "kubectl logs", BACK)
    tell(f"kubectl logs works {seconds:.1f} s after the start")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_edge_ends(stack: Stack, number: int) -> None:
    with (
        stack.kubectl.talk("exec", "-i", "cat", "--", "cat") as executed,
        stack.kubectl.talk("attach", "talker") as attached,
        stack.kubectl.talk("logs", "-f", "--tail=1", "talker") as followed,
    ):
        executed.send(b"hello\n")
        executed.wait_for(b"hello\n")
        attached.wait_for(b"line ")
        followed.wait_for(b"line ")
        code = stack.edge.end(number)
        ended = {talk: talk.finish(SOON) for talk in (executed, attached, followed)}
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    for done in ended.values():
        tell(f"exit {done.code} after {done.seconds:.1f} s: {done.err}{done.lines[-1]}")
    assert [done.code for done in ended.values()] == [1, 1, 0]
    assert "the session was lost: " in ended[executed].err
    assert "the session was lost: " in ended[attached].err
    assert "[KS2001]" in ended[followed].lines[-1]
    stack.edge.start()
    wait_until_it_works(stack)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_cloud_ends(stack: Stack, number: int) -> None:
    with stack.kubectl.talk("exec", "-i", "cat", "--", "cat") as talk:
        talk.send(b"hello\n")
        talk.wait_for(b"hello\n")
        code = stack.cloud.end(number)
        done = talk.finish(SOON)
    tell(f"exit {done.code} after {done.seconds:.1f} s: {done.err}")
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    if number == signal.SIGTERM:  # a process that is killed can't say a word
        assert done.code == 1
        assert "the session was lost: the cloud service shuts down" in done.err
    stack.cloud.start()
    wait_until_it_works(stack)


def test_both_end_while_nobody_asks(stack: Stack) -> None:
    programs: tuple[Program, ...] = (stack.cloud, stack.edge)
    for program in programs:
        program.end()
    for program in programs:
        program.start()
    wait_until_it_works(stack)
