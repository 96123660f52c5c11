"""``kubectl port-forward``, by every kubectl."""

import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.e2e.kubectl import DEADLINE, Kubectl

PAGE = b"hello from the lab\n"
AT_ONCE = 20


@contextmanager
def forwarded(kubectl: Kubectl, port: int) -> Iterator[str]:
    """The URL at which that port of the pod ``web`` is reached for the length of the block."""
    with kubectl.talk("port-forward", "pod/web", f":{port}") as talk:
        talk.wait_for(b"Forwarding from 127.0.0.1:")
        talk.wait_for(f" -> {port}\n".encode())
        local = re.search(rb"127\.0\.0\.1:(\d+)", talk.out)
        assert local
        yield f"http://127.0.0.1:{local[1].decode()}/"


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        content: bytes = answer.read()
        return content


def test_one_request_and_many_at_once(each_kubectl: Kubectl) -> None:
    with forwarded(each_kubectl, 8080) as url, ThreadPoolExecutor(AT_ONCE) as threads:
        assert get(url) == PAGE
        assert list(threads.map(get, [url] * AT_ONCE)) == [PAGE] * AT_ONCE


def test_a_large_answer_comes_whole(each_kubectl: Kubectl) -> None:
    each_kubectl.ok("exec", "web", "--", "sh", "-c", "seq 1 500000 > /www/numbers")
    with forwarded(each_kubectl, 8080) as url:
        assert get(f"{url}numbers") == "".join(f"{n}\n" for n in range(1, 500_001)).encode()


def test_a_port_that_nobody_listens_on(each_kubectl: Kubectl) -> None:
    with forwarded(each_kubectl, 9) as url, pytest.raises(OSError):
        get(url)
