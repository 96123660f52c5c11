"""Nothing listens at the edge, and nothing is left of commands that were broken off.

``E2E_ABORTS`` is how many are broken off, 200 unless told otherwise.
"""

import os
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.containerd import Lab
from lab.programs import run
from tests.e2e.conftest import NewStack
from tests.e2e.footprint import Footprint, processes
from tests.e2e.kubectl import tell
from tests.e2e.stack import Stack, wait_until

ABORTS = int(os.environ.get("E2E_ABORTS", "200"))
AT_ONCE = 8
LONGEST = 0.6
"""Seconds after which even the last of the commands has long begun to talk."""

MARK = "/dev/stdin"
COMMANDS = (
    ("logs", "-f", "talker"),
    ("logs", "-f", "--tail=1", "talker"),
    ("exec", "-i", "shell", "--", "cat", MARK),
    ("exec", "-i", "cat", "--", "cat", MARK),
    ("attach", "-i", "cat"),
    ("attach", "talker"),
    ("port-forward", "pod/web", ":8080"),
)


@pytest.fixture(scope="module")
def stack(new_stack: NewStack) -> Stack:
    return new_stack(kube_api=False)


def test_the_edge_has_no_listening_socket(stack: Stack) -> None:
    sockets = run("ss", "--no-header", "-l", "-n", "-t", "-u", "-x", "-p")
    assert f"pid={stack.cloud.pid}," in sockets
    assert f"pid={stack.edge.pid}," not in sockets


def nothing_is_executed() -> bool:
    return not processes("cat", MARK)


def test_nothing_is_left_of_commands_that_were_broken_off(stack: Stack, runtime: Lab) -> None:
    seed = random.randrange(2**32)
    tell(f"seed {seed}")
    chance = random.Random(seed)
    plan = [(chance.choice(COMMANDS), chance.uniform(0, LONGEST)) for _ in range(ABORTS)]

    def break_off(step: tuple[tuple[str, ...], float]) -> None:
        arguments, moment = step
        with stack.kubectl.talk(*arguments) as talk:
            try:
                talk.process.wait(moment)
            except subprocess.TimeoutExpired:
                return
            raise AssertionError(f"{arguments} ended by itself: {bytes(talk.err)!r}")

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(break_off, [(command, LONGEST) for command in COMMANDS]))
        with stack.kubectl.talk("logs", "-f", "--tail=1", "talker") as first:
            first.wait_for_lines(3)  # the edge goes on to watch log files
        wait_until(nothing_is_executed, "the end of what was executed")
        assert runtime.pid
        before = Footprint(edge=stack.edge.pid, cloud=stack.cloud.pid, containerd=runtime.pid)
        begin = time.monotonic()
        list(threads.map(break_off, plan))
    tell(f"{ABORTS} commands in {time.monotonic() - begin:.0f} s")
    tell(f"as before {before.wait_until_back():.1f} s later")
    wait_until(nothing_is_executed, "the end of what was executed")
    assert stack.kubectl.ok("exec", "cat", "--", "echo", "fine").out == b"fine\n"
