"""The edge agent in front of a kubelet of its host, instead of the runtime."""

import asyncio

import pytest

from lab.containerd import Lab
from lab.layout import HOST
from tests.e2e.background import Background
from tests.e2e.conftest import NewStack
from tests.e2e.kubectl import Kubectl
from tests.unit.lab.apiserver_kit import Exchange, FakeKubelet, fake_kubelet
from tests.unit.lab.cri_relay import cri_script

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def kubelet(loop: Background, runtime: Lab) -> FakeKubelet:
    """It answers logs by itself, and streams from the runtime."""
    stream = cri_script(runtime.cri)

    async def script(exchange: Exchange) -> None:
        if not exchange.target.startswith("/containerLogs/"):
            await stream(exchange)
        elif "previous=true" in exchange.target:
            await exchange.reply(400, b"there was none before", ("Content-Type", "text/plain"))
        else:
            await exchange.send(HEAD)
            for number in range(1, 4):
                line = f"line {number} of {exchange.target}\n".encode()
                await exchange.send(b"%x\r\n%b\r\n" % (len(line), line))
            if "follow=true" in exchange.target:
                await asyncio.Event().wait()
            await exchange.send(b"0\r\n\r\n")

    return loop.enter(fake_kubelet(None, script))


@pytest.fixture(scope="module")
def kubectl(kubelet: FakeKubelet, new_stack: NewStack) -> Kubectl:
    here = {"address": HOST, "readOnlyPort": kubelet.port}
    return new_stack(
        edge={
            "modules": {"edged": {"tailoredKubeletConfig": here}},
            "edgestream": {"backend": "kubelet"},
        }
    ).kubectl


def test_logs(kubectl: Kubectl) -> None:
    path = "/containerLogs/default/cat/cat"
    assert kubectl.ok("logs", "cat").lines == [f"line {n} of {path}" for n in (1, 2, 3)]
    with kubectl.talk("logs", "-f", "cat") as talk:
        assert talk.wait_for_lines(3)[2] == f"line 3 of {path}?follow=true"
    done = kubectl("logs", "cat", "--previous")
    assert (done.code, done.err) == (1, "Error from server (BadRequest): there was none before\n")


def test_exec(kubectl: Kubectl) -> None:
    done = kubectl("exec", "-i", "cat", "--", "sh", "-c", "cat; exit 7", stdin=b"hello\n")
    assert (done.code, done.out) == (7, b"hello\n")


def test_attach(kubectl: Kubectl) -> None:
    with kubectl.talk("attach", "-i", "cat") as talk:
        talk.send(b"hello, kubelet\n")
        talk.wait_for(b"hello, kubelet\n")
