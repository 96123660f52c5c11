"""``kubectl port-forward``, by every kubectl.

``E2E_FORWARD_BYTES`` is how much goes both ways at once, 10,000,000 unless told otherwise.
"""

import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from lab.containerd import Lab
from lab.programs import ENVIRONMENT
from tests.e2e.forwards import PAGE, forwarded, forwarding, get
from tests.e2e.kubectl import DEADLINE, Kubectl, Talk, tell
from tests.e2e.stack import wait_until
from tests.support import tcp_server

AT_ONCE = 100
BOTH_WAYS = int(os.environ.get("E2E_FORWARD_BYTES", "10_000_000"))
PIECE = 1 << 16
REFUSED = b"127.0.0.1:9: connect: connection refused"
PodServer = Callable[..., int]


LATE = 2.5
"""Seconds that a server may take with its answer, once the client has ended its request."""


@pytest.fixture(scope="module")
def pod_server(runtime: Lab) -> Iterator[PodServer]:
    """Starts servers in the pod's network, which send back what comes; returns their ports."""
    if not runtime.has_network:
        pytest.skip("pods can't have a network of their own here")
    selector = {"label_selector": {"io.kubernetes.pod.name": "web"}}
    (sandbox,) = runtime.cri("ListPodSandbox", filter=selector).items
    status: Any = runtime.cri("PodSandboxStatus", pod_sandbox_id=sandbox.id, verbose=True)
    network = f"/proc/{json.loads(status.info['info'])['pid']}/ns/net"
    command = ["nsenter", f"--net={network}", sys.executable, "-m", tcp_server.__name__]
    with ExitStack() as servers:

        def start(*arguments: str) -> int:
            talk = servers.enter_context(Talk([*command, *arguments], ENVIRONMENT))
            (line,) = talk.wait_for_lines(1)
            return int(line)

        yield start


@pytest.fixture(scope="module")
def echo_port(pod_server: PodServer) -> int:
    return pod_server()


@pytest.fixture(scope="module")
def ipv6_port(pod_server: PodServer) -> int:
    return pod_server("--address", "::1")


@pytest.fixture(scope="module")
def late_port(pod_server: PodServer) -> int:
    return pod_server("--after", str(LATE))


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
    with forwarding(each_kubectl, 9) as (local, talk):
        with pytest.raises(OSError):
            get(local)
        wait_until(lambda: REFUSED in talk.err, f"{REFUSED!r} from kubectl")


def test_much_goes_both_ways_at_once(each_kubectl: Kubectl, echo_port: int) -> None:
    sent = os.urandom(BOTH_WAYS)
    with forwarded(each_kubectl, echo_port) as local:
        received = exchanged(local, sent)
    tell(f"{len(received)} bytes came back")
    assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()


def test_a_server_that_answers_after_the_clients_end(each_kubectl: Kubectl, late_port: int) -> None:
    sent = os.urandom(1_000_000)
    with forwarded(each_kubectl, late_port) as local:
        assert exchanged(local, sent) == sent


def test_a_server_that_listens_on_ipv6_only(kubectl: Kubectl, ipv6_port: int) -> None:
    with forwarded(kubectl, ipv6_port) as local:
        assert exchanged(local, b"hello") == b"hello"


def exchanged(local: int, sent: bytes) -> bytes:
    """Send that and the end, and receive all up to the server's end."""
    with (
        socket.create_connection(("127.0.0.1", local), DEADLINE) as connection,
        ThreadPoolExecutor(1) as thread,
    ):
        sending = thread.submit(connection.sendall, sent)
        sending.add_done_callback(lambda _: connection.shutdown(socket.SHUT_WR))
        received = bytearray()
        while data := connection.recv(PIECE):
            received += data
        sending.result(DEADLINE)
    return bytes(received)
