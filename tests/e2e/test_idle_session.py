"""A session that the runtime gives up because nothing has happened in it for long."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.containerd import Lab
from tests.e2e.conftest import NewStack
from tests.e2e.kubectl import Outcome
from tests.e2e.pods import run_pod

SESSIONS = 8


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Path]:
    """The directory of a containerd that waits two seconds, and not four hours."""
    with Lab(tmp_path / "containerd", idle_timeout="2s") as lab:
        lab.run_container(run_pod(lab, "cat"), "cat", ["cat"], stdin=True)
        yield lab.base


def test_it_is_told_as_a_failure(impatient: Path, new_stack: NewStack) -> None:
    """The runtime resets all streams, without a status: by itself kubectl exits 0 then.

    Several at once, since it resets them in any order, and cuts its frames anywhere.
    """
    kubectl = new_stack(runtime=impatient, pods={"cat": ("cat",)}).kubectl

    def session(number: int) -> Outcome:
        line = f"line {number}\n".encode()
        with kubectl.talk("exec", "-i", "cat", "--", "cat") as talk:
            talk.send(line)
            talk.wait_for(line)
            return talk.finish()

    with ThreadPoolExecutor(SESSIONS) as pool:
        for done in pool.map(session, range(SESSIONS)):
            assert done.code == 1
            assert "the session was lost: it ended without a status [KS3004]" in done.err
