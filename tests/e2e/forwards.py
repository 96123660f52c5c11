"""Ports of the pod ``web``, forwarded by kubectl."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.kubectl import Kubectl, Talk


@contextmanager
def forwarding(kubectl: Kubectl, port: int) -> Iterator[tuple[int, Talk]]:
    """The local port for that one of the pod ``web``, and the running kubectl."""
    with kubectl.talk("port-forward", "pod/web", f":{port}") as talk:
        talk.wait_for(b"Forwarding from 127.0.0.1:")
        talk.wait_for(f" -> {port}\n".encode())
        local = re.search(rb"127\.0\.0\.1:(\d+)", talk.out)
        assert local
        yield int(local[1]), talk


@contextmanager
def forwarded(kubectl: Kubectl, port: int) -> Iterator[int]:
    """The local port for that one of the pod ``web``, for the length of the block."""
    with forwarding(kubectl, port) as (local, _):
        yield local
