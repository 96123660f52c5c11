"""A command that goes on to write when its client has left.

Nothing is left of it at the cloud and at the edge. The runtime leaves it in its container, waiting
to write: it closes its own end of the command's output, but its shim keeps one open, so that no
write fails and none is taken.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from lab.containerd import Lab
from tests.e2e.conftest import NewStack
from tests.e2e.footprint import Footprint, processes
from tests.e2e.pods import run_pod
from tests.e2e.stack import wait_until
from tests.e2e.websocket import PROTOCOL

WRITES = ("yes", "on and on")
TIMES = 5


class Container:
    """One that sleeps, and in which commands are run."""

    def __init__(self, runtime: Lab, container_id: str) -> None:
        self._runtime = runtime
        self.id = container_id
        self._given_up_before = self._given_up

    @property
    def _given_up(self) -> int:
        """How many outputs the runtime has closed because nobody takes them any more."""
        return self._runtime.log.read_text().count("Failed to pipe")

    def check_what_is_left(self, count: int) -> None:
        """So many commands are still there when nothing can wake them any more.

        They end with their container.
        """
        expected = self._given_up_before + count
        wait_until(lambda: self._given_up >= expected, "the runtime's end of the output")
        wait_until(lambda: are_waiting_to_write(count), "commands that wait to write")
        self._runtime.cri("StopContainer", container_id=self.id, timeout=0)
        wait_until(lambda: not processes(*WRITES), "the end of the container's processes")


@pytest.fixture
def container(runtime: Lab) -> Iterator[Container]:
    pod = run_pod(runtime, "left")
    yield Container(runtime, runtime.run_container(pod, "left", ["sleep", "9999"]))
    runtime.remove_pod(pod.id)


def are_waiting_to_write(count: int) -> bool:
    """Whether there are so many, each of which waits in the kernel for room in a pipe."""
    waits = [Path(f"/proc/{pid}/wchan").read_text() for pid in processes(*WRITES)]
    return len(waits) == count and all("pipe_write" in wait for wait in waits)


def test_straight_at_the_runtime(runtime: Lab, container: Container) -> None:
    """None of our programs is asked here."""
    asked = runtime.cri("Exec", container_id=container.id, cmd=WRITES, stdout=True)
    url = asked.url.replace("http:", "ws:")
    with connect(url, subprotocols=[Subprotocol(PROTOCOL)], compression=None) as connection:
        while b"on and on" not in connection.recv():
            pass
        connection.socket.close()
    container.check_what_is_left(1)


def test_through_cloud_and_edge(container: Container, new_stack: NewStack) -> None:
    stack = new_stack(kube_api=False)

    def leave() -> None:
        with stack.kubectl.talk("exec", "left", "--", *WRITES) as talk:
            talk.wait_for(b"on and on\n")

    leave()
    before = Footprint(edge=stack.edge.pid, cloud=stack.cloud.pid)
    for _ in range(TIMES):
        leave()
    before.wait_until_back()
    container.check_what_is_left(TIMES + 1)
