"""The link is cut again and again, at random moments, while three commands run at the same time.

``E2E_CUTS`` is how often, 3 unless told otherwise, and ``E2E_CUT_SECONDS`` for how long each time,
2 unless told otherwise. ``E2E_SEED`` repeats a run.
"""

import hashlib
import os
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from lab.containerd import Lab
from tests.e2e.background import Background
from tests.e2e.conftest import NewStack
from tests.e2e.kubectl import Kubectl, Outcome, Talk, tell
from tests.e2e.pods import run_pod
from tests.e2e.trouble import Trouble, trouble

CUTS = int(os.environ.get("E2E_CUTS", "3"))
SECONDS = float(os.environ.get("E2E_CUT_SECONDS", "2"))
SEED = int(os.environ.get("E2E_SEED", "0")) or random.randrange(1, 2**32)

WAYS = (("cut", "heal"), ("swallow", "heal"), ("swallow", "release"))
"""How the link goes and how it comes back: with a reset at once, with one at the end, or with all
that was held back."""
RATE = 1_000_000.0
"""Bytes per second over the link, in each direction."""
SIZE = CUTS * 2_500_000
"""Of the file: 50 MB for 20 cuts. It is on its way for longer than the link is whole until the last
of them."""
BETWEEN = (50_000, 6_000_000)
"""Bytes, both ways together, that pass from one cut to the next."""
DEADLINE = 120 + CUTS * (SECONDS + 10)

POD = "counter"
STOP = "/tmp/stop-{}"
UNTIL_STOPPED = f"n=0; until [ -e {STOP} ]; do {{}}; done; echo end"
BULK = UNTIL_STOPPED.format("bulk", "seq $((n+1)) $((n+10000)); n=$((n+10000))")
LINES = UNTIL_STOPPED.format("lines", "n=$((n+1)); echo $n; sleep 0.02")

pytestmark = pytest.mark.timeout(DEADLINE + 60)


@pytest.fixture(scope="module")
def slow(loop: Background, new_stack: NewStack) -> Trouble:
    """A link on which things take their time."""
    made = trouble(loop, new_stack, resume_timeout=30)
    made.link.rate = RATE
    return made


@pytest.fixture
def counter(runtime: Lab) -> Iterator[None]:
    """A pod whose log is numbered, until it is stopped."""
    pod = run_pod(runtime, POD)
    runtime.run_container(pod, POD, ["sh", "-c", LINES])
    yield
    runtime.remove_pod(pod.id)


def cut_at_random_moments(slow: Trouble, chance: random.Random, *running: Talk) -> None:
    """Cut the link, each time for as long, while all of these run."""
    for number in range(1, CUTS + 1):
        gone, back = chance.choice(WAYS)
        gap = chance.randint(*BETWEEN)
        slow.wait_until_carried(gap)
        assert all(talk.process.poll() is None for talk in running), "there is nothing to cut"
        tell(f"{number}: {gone} and {back} {gap} bytes later")
        slow.loop.call(getattr(slow.link, gone))
        time.sleep(SECONDS)
        slow.loop.call(getattr(slow.link, back))
    slow.wait_until_carried(BETWEEN[0])


def stop(kubectl: Kubectl, what: str, talk: Talk) -> Outcome:
    """Let what counts come to its end."""
    kubectl.ok("exec", POD, "--", "touch", STOP.format(what), deadline=DEADLINE)
    return talk.finish(DEADLINE)


def assert_counted(out: bytes, *, least: int) -> None:
    """Every number is there, once, and in its order."""
    *numbers, last = out.decode().splitlines()
    found = [int(number) for number in numbers]
    assert last == "end"
    wrong = [pair for pair in pairwise([0, *found]) if pair[1] != pair[0] + 1]
    assert wrong == []
    assert len(found) >= least
    tell(f"{len(found)} numbers, {len(out)} bytes")


@pytest.mark.usefixtures("counter")
def test_nothing_is_lost_or_repeated(slow: Trouble, tmp_path: Path) -> None:
    tell(f"seed {SEED}")
    kubectl, chance = slow.stack.kubectl, random.Random(SEED)
    file = tmp_path / "file"
    file.write_bytes(chance.randbytes(SIZE))
    with (
        kubectl.talk("exec", POD, "--", "sh", "-c", BULK) as executed,
        kubectl.talk("logs", "-f", POD) as followed,
        kubectl.talk("cp", str(file), "cat:/tmp/cut") as copied,
    ):
        begin = time.monotonic()
        cut_at_random_moments(slow, chance, executed, followed, copied)
        tell(f"{CUTS} cuts of {SECONDS:g} s within {time.monotonic() - begin:.0f} s")
        uploaded = copied.finish(DEADLINE)
        tell(f"copied {uploaded.seconds:.0f} s later")
        counted = stop(kubectl, "bulk", executed)
        logged = stop(kubectl, "lines", followed)
    for done in (uploaded, counted, logged):
        assert (done.code, done.err) == (0, "")
    assert_counted(counted.out, least=CUTS * 10_000)
    assert_counted(logged.out, least=CUTS * 10)
    found = kubectl.ok("exec", "cat", "--", "sha256sum", "/tmp/cut").out.decode().split()[0]
    assert found == hashlib.sha256(file.read_bytes()).hexdigest()
    kubectl.ok("exec", "cat", "--", "rm", "/tmp/cut")
