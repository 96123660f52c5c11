from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgestream.cri import cri_pb2
from edgestream.kubelet.cri_backend import CriBackend
from tests.support.runtime import ScriptedRuntime, container, sandbox, serving

DEADLINE = 5.0


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ScriptedRuntime]:
    """A runtime with the pod ``web``, uid ``u1``, and its running container ``app``, id ``c1``.

    It does not tell where its sandbox ``s1`` has its network.
    """
    runtime = ScriptedRuntime()
    runtime.sandboxes = [sandbox("s1", created_at=1)]
    runtime.containers = [container("c1", created_at=2)]
    runtime.sandbox_statuses["s1"] = cri_pb2.PodSandboxStatusResponse()
    async with serving(runtime, tmp_path / "cri.sock"):
        yield runtime


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[CriBackend]:
    """A backend on that runtime's socket, whether or not the runtime serves."""
    backend = CriBackend(
        f"unix://{tmp_path / 'cri.sock'}", call_deadline=DEADLINE, dial_deadline=DEADLINE
    )
    yield backend
    await backend.close()
    await backend.close()
