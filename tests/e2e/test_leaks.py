"""Nothing listens at the edge, and nothing is left of commands that were broken off.

``E2E_ABORTS`` is how many are broken off, 200 unless told otherwise.
"""

import os
import random
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from lab.containerd import Lab
from lab.programs import run
from tests.e2e.conftest import NewStack
from tests.e2e.footprint import Footprint, processes
from tests.e2e.forwards import forwarded
from tests.e2e.kubectl import DEADLINE, tell
from tests.e2e.stack import Stack, wait_until

ABORTS = int(os.environ.get("E2E_ABORTS", "200"))
AT_ONCE = 8
PIECE = 1 << 16
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


CONNECTIONS = 30
"""Connections through one port-forward, which are there when it is broken off."""

ROUNDS = 5


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


def test_nothing_is_left_of_forwarded_connections(stack: Stack) -> None:
    def connect_and_break_off() -> None:
        with ExitStack() as sockets, forwarded(stack.kubectl, 8080) as local:
            made = [
                sockets.enter_context(socket.create_connection(("127.0.0.1", local), DEADLINE))
                for _ in range(CONNECTIONS)
            ]
            for each in made[::2]:
                each.sendall(b"GET / HTTP/1.0\r\n\r\n")
            for each in made[::4]:
                assert each.recv(PIECE)

    connect_and_break_off()
    before = Footprint(edge=stack.edge.pid, cloud=stack.cloud.pid)
    for _ in range(ROUNDS):
        connect_and_break_off()
    tell(f"as before {before.wait_until_back():.1f} s later")
