"""Log files of real containers: the golden vectors in one, and what the runtime itself writes."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from edgestream.kubelet.cri_backend import CriBackend
from lab.containerd import Lab, Pod
from streamkit.wire.exchange import RequestHead
from tests.integration.kubelet.conftest import WebPod
from tests.support.exchange import ask
from tests.support.log_vectors import VECTORS, named

pytestmark = pytest.mark.lab

LIMIT = 30.0
EXITED = 2
OPTIONS = {
    "tail_lines": "tailLines",
    "limit_bytes": "limitBytes",
    "since": "sinceTime",
    "timestamps": "timestamps",
    "stream": "stream",
}

LONG = 40_000
LONGEST = 16_384
"""Bytes of content that the runtime puts into one record."""
WRITES = f"""
head -c {LONG} /dev/zero | tr '\\0' x
printf '\\ncrlf\\r\\n10%%\\r20%%\\n\\0\\377\\376\\n\\n no newline '
"""


def run_to_end(lab: Lab, pod: Pod, name: str, script: str) -> Path:
    """The log file of a container that has run the script."""
    container = lab.run_container(pod, name, ["sh", "-c", script])
    while lab.cri("ContainerStatus", container_id=container).status.state != EXITED:
        pass
    return pod.log_directory / name / "0.log"


@pytest.fixture(scope="module")
def log(lab: Lab, web: WebPod) -> Path:
    """The file of the container ``vector``, whose content is any test's own."""
    return run_to_end(lab, web.pod, "vector", "true")


async def read(backend: CriBackend, name: str, **options: str) -> tuple[int, bytes]:
    """Status and body."""
    target = f"/containerLogs/default/web/{name}?{urlencode(options)}"
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead("GET", target))
    assert head.headers == ()
    return head.status, body


def set_up(log: Path, vector: dict[str, Any]) -> dict[str, str]:
    """Write the vector's file; returns its options as those of a request."""
    log.write_bytes(vector["file"].encode("latin-1"))
    return {
        OPTIONS[key]: value if isinstance(value, str) else json.dumps(value)
        for key, value in vector["options"].items()
    }


@pytest.mark.parametrize("vector", VECTORS, ids=named)
async def test_golden_vector(backend: CriBackend, log: Path, vector: dict[str, Any]) -> None:
    options = set_up(log, vector)
    if "error" in vector:
        assert await read(backend, "vector", **options) == (400, vector["error"].encode())
        return
    output = vector["output"].encode("latin-1")
    assert await read(backend, "vector", **options) == (200, output)


def tags(log: Path) -> list[bytes]:
    """How the runtime marked its records: whole (F), or to be continued (P)."""
    return [record.split(b" ")[2] for record in log.read_bytes().split(b"\n")[:-1]]


async def test_what_the_runtime_writes(backend: CriBackend, lab: Lab, web: WebPod) -> None:
    log = await asyncio.to_thread(run_to_end, lab, web.pod, "writes", WRITES)
    long, rest = b"x" * LONG + b"\n", b"crlf\n10%\r20%\n\0\xff\xfe\n\n no newline "
    # A follower waits for what the runtime still has to write.
    assert await read(backend, "writes", follow="true") == (200, long + rest)
    assert tags(log) == [b"P", b"P", b"F", b"F", b"F", b"F", b"F", b"P"]
    assert await read(backend, "writes") == (200, long + rest)
    assert await read(backend, "writes", tailLines="5") == (200, rest)
    last = long[2 * LONGEST :]
    assert await read(backend, "writes", tailLines="6") == (200, last + rest)
    assert await read(backend, "writes", limitBytes="10") == (200, long[:10])
