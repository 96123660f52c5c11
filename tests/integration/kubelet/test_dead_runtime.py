"""A containerd that is killed and comes back."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from edgestream.kubelet.cri_backend import CriBackend
from lab.containerd import Lab, missing
from streamkit.wire.exchange import RequestHead
from tests.support.exchange import ask

pytestmark = pytest.mark.lab

LIMIT = 30.0
SOON = 5.0
"""Seconds that a dead runtime may cost; the deadline of a call is longer."""

LOGS = "/containerLogs/default/web/app"
EXEC = "/exec/default/web/app?command=id&output=1"


def kill(lab: Lab) -> None:
    pid = lab.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    while lab.pid:
        pass


async def test_fails_soon_and_recovers() -> None:
    if lacking := missing():
        pytest.skip(f"this machine lacks {', '.join(lacking)}")
    lab = Lab(Path(f"/tmp/kt-{os.getpid()}-dies"))
    backend = CriBackend(str(lab.socket), call_deadline=LIMIT, dial_deadline=LIMIT)
    try:
        for _ in range(2):
            await asyncio.to_thread(lab.up)
            async with asyncio.timeout(SOON):
                while (await ask(backend, RequestHead("GET", "/healthz")))[0].status != 200:
                    await asyncio.sleep(0.01)
                head, _ = await ask(backend, RequestHead("GET", LOGS))
                assert head.status == 404
            await asyncio.to_thread(kill, lab)
            for target in (LOGS, EXEC, "/portForward/default/web"):
                async with asyncio.timeout(SOON):
                    head, body = await ask(backend, RequestHead("GET", target))
                assert head.status == 500
                assert str(lab.socket) in body.decode()
    finally:
        await backend.close()
        await asyncio.to_thread(lab.down)
