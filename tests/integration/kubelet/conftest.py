"""A real containerd with one pod that has something of everything."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgestream.kubelet.cri_backend import CriBackend
from lab.containerd import Lab, Pod, missing

CALL_DEADLINE, DIAL_DEADLINE = 20.0, 5.0
SCRIPT = "for n in 1 2 3; do echo out $n; echo err $n >&2; done; exec sleep 1000"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A containerd of these tests' own."""
    if lacking := missing():
        pytest.skip(f"this machine lacks {', '.join(lacking)}")
    with Lab(Path(f"/tmp/kt-{os.getpid()}")) as lab:
        yield lab


@dataclass(frozen=True, slots=True)
class WebPod:
    """The pod ``web`` in ``default``.

    ``app`` has written three lines to each stream and sleeps, ``cat`` copies stdin to stdout,
    ``tty`` does so on a terminal, ``done`` ended with 3, ``new`` was not started, ``httpd`` serves
    port 8080 where the pod has a network of its own.
    """

    pod: Pod
    app_id: str


@pytest.fixture(scope="session")
def web(lab: Lab) -> WebPod:
    """A pod for all tests, which leave it as it is."""
    pod = lab.run_pod("web", host_network=not lab.has_network)
    app_id = lab.run_container(pod, "app", ["sh", "-c", SCRIPT])
    lab.run_container(pod, "cat", ["cat"], stdin=True)
    lab.run_container(pod, "tty", ["cat"], stdin=True, tty=True)
    lab.run_container(pod, "done", ["sh", "-c", "echo last words; exit 3"])
    lab.run_container(pod, "new", ["true"], start=False)
    if lab.has_network:
        lab.run_container(pod, "httpd", ["httpd", "-f", "-p", "8080", "-h", "/www"])
    return WebPod(pod, app_id)


@pytest.fixture
async def backend(lab: Lab) -> AsyncIterator[CriBackend]:
    """The kubelet service on that containerd."""
    backend = CriBackend(
        f"unix://{lab.socket}", call_deadline=CALL_DEADLINE, dial_deadline=DIAL_DEADLINE
    )
    yield backend
    await backend.close()
