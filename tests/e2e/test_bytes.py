"""Nothing is lost at the end: large outputs with exit codes, bursts right before an exit.

``E2E_BULK_BYTES`` is the size of a large output, 200,000,000 unless told otherwise, and
``E2E_BULK_TIMES`` how often it is asked for over each version of the wire, 2.
"""

import hashlib
import os
from itertools import repeat

import pytest

from lab.containerd import Lab
from tests.e2e.kubectl import Kubectl, tell
from tests.e2e.pods import run_pod
from tests.e2e.stack import Stack

BULK = int(os.environ.get("E2E_BULK_BYTES", "200_000_000"))
TIMES = int(os.environ.get("E2E_BULK_TIMES", "2"))
LINE = b"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ\n"
BURST = [f"{number}" for number in range(1, 5001)]
RUNS = 20


@pytest.fixture(scope="module")
def digest() -> str:
    """Of what the large output has to be."""
    found = hashlib.sha256()
    whole, rest = divmod(BULK, len(LINE))
    for _ in repeat(None, whole):
        found.update(LINE)
    found.update(LINE[:rest])
    return found.hexdigest()


@pytest.fixture(params=["v2", "v1"])
def wire_kubectl(request: pytest.FixtureRequest, kubectl: Kubectl) -> Kubectl:
    """The last kubectl, over each version of the wire."""
    if request.param == "v1":
        stack: Stack = request.getfixturevalue("stack_with_v1")
        return stack.kubectl
    return kubectl


@pytest.mark.parametrize("time", range(TIMES))
def test_a_large_output_and_its_exit_code(wire_kubectl: Kubectl, digest: str, time: int) -> None:
    script = f"yes '{LINE.decode().rstrip()}' | head -c {BULK}; exit 7"
    done = wire_kubectl("exec", "cat", "--", "sh", "-c", script, deadline=120)
    assert (done.code, len(done.out)) == (7, BULK)
    assert hashlib.sha256(done.out).hexdigest() == digest
    tell(f"{BULK} bytes in {done.seconds:.1f} s")


def test_a_burst_before_a_command_exits(kubectl: Kubectl) -> None:
    for code in range(RUNS):
        done = kubectl("exec", "cat", "--", "sh", "-c", f"seq 1 {len(BURST)}; exit {code}")
        assert done.code == code
        assert done.lines == BURST


def test_a_burst_before_a_container_exits(kubectl: Kubectl, runtime: Lab) -> None:
    pod = run_pod(runtime, "burst")
    followed = {}
    for number in range(RUNS):
        name = f"burst-{number}"
        runtime.run_container(pod, name, ["seq", "1", str(len(BURST))])
        followed[name] = kubectl.ok("logs", "-f", "burst", "-c", name).out
    for name, text in followed.items():
        (log,) = runtime.base.glob(f"pods/*_burst_*/{name}/0.log")
        assert text == content_of(log.read_bytes())
    # A busy containerd now and then loses the last block that a container writes, not a line more.
    assert "\n".join(BURST).encode() + b"\n" in followed.values()
    runtime.remove_pod(pod.id)


def content_of(log: bytes) -> bytes:
    """What a log file holds, without the time, the stream and the tag of each line."""
    records = [record.split(b" ", 3) for record in log.splitlines()]
    return b"".join(text + b"\n" * (tag == b"F") for _, _, tag, text in records)
