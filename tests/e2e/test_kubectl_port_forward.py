"""``kubectl port-forward``, by every kubectl.

``E2E_FORWARD_BYTES`` is how much goes both ways at once, 10,000,000 unless told otherwise.
"""

import hashlib
import json
import os
import re
import socket
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from lab.containerd import Lab
from lab.programs import ENVIRONMENT
from tests.e2e.kubectl import DEADLINE, Kubectl, Talk, tell
from tests.support import tcp_server

PAGE = b"hello from the lab\n"
AT_ONCE = 100
BOTH_WAYS = int(os.environ.get("E2E_FORWARD_BYTES", "10_000_000"))
PIECE = 1 << 16


@contextmanager
def forwarded(kubectl: Kubectl, port: int) -> Iterator[int]:
    """The local port for that one of the pod ``web``, for the length of the block."""
    with kubectl.talk("port-forward", "pod/web", f":{port}") as talk:
        talk.wait_for(b"Forwarding from 127.0.0.1:")
        talk.wait_for(f" -> {port}\n".encode())
        local = re.search(rb"127\.0\.0\.1:(\d+)", talk.out)
        assert local
        yield int(local[1])


@pytest.fixture(scope="module")
def echo_port(runtime: Lab) -> Iterator[int]:
    """The port of a server in the pod's network that sends back what comes."""
    if not runtime.has_network:
        pytest.skip("pods can't have a network of their own here")
    selector = {"label_selector": {"io.kubernetes.pod.name": "web"}}
    (sandbox,) = runtime.cri("ListPodSandbox", filter=selector).items
    status: Any = runtime.cri("PodSandboxStatus", pod_sandbox_id=sandbox.id, verbose=True)
    network = f"/proc/{json.loads(status.info['info'])['pid']}/ns/net"
    command = ["nsenter", f"--net={network}", sys.executable, "-m", tcp_server.__name__]
    with Talk(command, ENVIRONMENT) as talk:
        (line,) = talk.wait_for_lines(1)
        yield int(line)


def get(local: int, path: str = "") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{local}/{path}", timeout=DEADLINE) as answer:
        content: bytes = answer.read()
        return content


def test_one_request_and_many_at_once(each_kubectl: Kubectl) -> None:
    with forwarded(each_kubectl, 8080) as local, ThreadPoolExecutor(AT_ONCE) as threads:
        assert get(local) == PAGE
        assert list(threads.map(get, [local] * AT_ONCE)) == [PAGE] * AT_ONCE


def test_a_large_answer_comes_whole(each_kubectl: Kubectl) -> None:
    each_kubectl.ok("exec", "web", "--", "sh", "-c", "seq 1 500000 > /www/numbers")
    expected = "".join(f"{n}\n" for n in range(1, 500_001)).encode()
    with forwarded(each_kubectl, 8080) as local:
        assert get(local, "numbers") == expected


def test_a_port_that_nobody_listens_on(each_kubectl: Kubectl) -> None:
    with forwarded(each_kubectl, 9) as local, pytest.raises(OSError):
        get(local)


def test_much_goes_both_ways_at_once(each_kubectl: Kubectl, echo_port: int) -> None:
    sent = os.urandom(BOTH_WAYS)
    with (
        forwarded(each_kubectl, echo_port) as local,
        socket.create_connection(("127.0.0.1", local), DEADLINE) as connection,
        ThreadPoolExecutor(1) as thread,
    ):
        sending = thread.submit(connection.sendall, sent)
        received = bytearray()
        while len(received) < len(sent) and (data := connection.recv(PIECE)):
            received += data
        sending.result(DEADLINE)
    tell(f"{len(received)} bytes came back")
    assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()
