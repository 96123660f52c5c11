"""A busy log is followed through rotations: no line is lost, comes twice or in another place.

``E2E_ROTATION_SECONDS`` is the time between two of the 20 rotations, 0.3 s unless told otherwise.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lab.containerd import Lab, Pod
from lab.programs import ENVIRONMENT
from tests.e2e.kubectl import Kubectl, Talk, tell
from tests.e2e.pods import run_pod
from tests.support import log_writer

RATE = 5000
ROTATIONS = 20
SECONDS = float(os.environ.get("E2E_ROTATION_SECONDS", "0.3"))
DEADLINE = ROTATIONS * SECONDS + 60

# One write for 50 lines, a hundredth of a second apart; the last line is on record in a file.
SCRIPT = """
echo 0
last=0
while [ ! -e /tmp/enough ]; do
    seq $((last + 1)) $((last + 50))
    last=$((last + 50))
    usleep 7500
done
echo $last > /tmp/last
exec sleep 9999
"""


@pytest.fixture
def pod(runtime: Lab) -> Iterator[Pod]:
    pod = run_pod(runtime, "busy")
    yield pod
    runtime.remove_pod(pod.id)


@contextmanager
def followed(kubectl: Kubectl) -> Iterator[Callable[[int], None]]:
    """Follows the log; what is yielded waits for all up to that line and compares them.

    The block begins when the first line, ``0``, has come: what is rotated away before there is a
    follower is not shown to it.
    """
    with kubectl.talk("logs", "-f", "busy") as talk:
        talk.wait_for_lines(1)

        def check(last: int) -> None:
            lines = talk.wait_for_lines(last + 1, DEADLINE)
            expected = [str(number) for number in range(last + 1)]
            pairs = zip(lines, expected, strict=True)
            assert next((pair for pair in pairs if pair[0] != pair[1]), None) is None

        yield check


def test_of_a_writer_with_records_of_its_own(kubectl: Kubectl, runtime: Lab, pod: Pod) -> None:
    runtime.run_container(pod, "busy", ["sh", "-c", "echo 0; exec sleep 9999"])
    log = pod.log_directory / "busy" / "0.log"
    figures = (str(RATE), str(ROTATIONS), str(SECONDS))
    command = (sys.executable, "-m", log_writer.__name__, str(log), *figures)
    with followed(kubectl) as check, Talk(command, ENVIRONMENT) as writer:
        (last,) = writer.wait_for_lines(1, DEADLINE)
        check(int(last))
    tell(f"{last} lines")


def test_of_the_runtimes_own(kubectl: Kubectl, runtime: Lab, pod: Pod) -> None:
    container = runtime.run_container(pod, "busy", ["sh", "-c", SCRIPT])
    log = pod.log_directory / "busy" / "0.log"
    begin = time.monotonic()
    with followed(kubectl) as check:
        for number in range(ROTATIONS):
            time.sleep(SECONDS)
            log_writer.tidy(log)
            log.rename(log.with_name(f"0.log.20240501-{number:06d}"))
            runtime.cri("ReopenContainerLog", container_id=container)
        script = "touch /tmp/enough; until [ -s /tmp/last ]; do usleep 10000; done; cat /tmp/last"
        last = int(kubectl.ok("exec", "busy", "--", "sh", "-c", script).out)
        seconds = time.monotonic() - begin
        check(last)
    tell(f"{last} lines, {last / seconds:.0f} a second")
