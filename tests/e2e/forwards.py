"""Ports of pods, forwarded by kubectl."""

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.kubectl import DEADLINE, Kubectl, Talk

PAGE = b"hello from the lab\n"
"""What the lab's web servers have at their root."""


@contextmanager
def forwarding(kubectl: Kubectl, port: int, pod: str = "web") -> Iterator[tuple[int, Talk]]:
    """The local port for that one of the pod, and the running kubectl."""
    with kubectl.talk("port-forward", f"pod/{pod}", f":{port}") as talk:
        talk.wait_for(b"Forwarding from 127.0.0.1:")
        talk.wait_for(f" -> {port}\n".encode())
        local = re.search(rb"127\.0\.0\.1:(\d+)", talk.out)
        assert local
        yield int(local[1]), talk


@contextmanager
def forwarded(kubectl: Kubectl, port: int, pod: str = "web") -> Iterator[int]:
    """The local port for that one of the pod, for the length of the block."""
    with forwarding(kubectl, port, pod) as (local, _):
        yield local


def get(local: int, path: str = "") -> bytes:
    """What a web server answers there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{local}/{path}", timeout=DEADLINE) as answer:
        content: bytes = answer.read()
        return content
