"""Sockets in other network namespaces.

A socket belongs for good to the namespace in which its thread was when it was made, so only making
one has to happen there; connecting and the rest happen anywhere.
"""

import asyncio
import ctypes
import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

Kind = tuple[int, int, int]
"""Family, kind and protocol of a socket, in the order of ``socket.socket``."""

_CLONE_NEWNET = 0x40000000
_OWN = Path("/proc/self/ns/net")
"""The namespace of the process's first thread, which never leaves it."""

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceSockets:
    """Makes sockets, in a thread of its own that does nothing else."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pod-network")

    async def make(self, namespace: Path | None, kinds: Sequence[Kind]) -> list[socket.socket]:
        """Sockets of these kinds, that do not block, in the namespace that the file stands for.

        None stands for this process's own. Raises OSError where there is no such file, where it
        must not be entered, or where it has no such sockets; then none is left. Cancelling leaves
        none either.
        """
        if namespace is None:
            return _make(kinds)
        loop = asyncio.get_running_loop()
        making = loop.run_in_executor(self._thread, _make_within, namespace, kinds)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_discard)
            raise

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _make_within(namespace: Path, kinds: Sequence[Kind]) -> list[socket.socket]:
    with open(_OWN, "rb") as own, open(namespace, "rb") as other:
        _enter(other.fileno())
        try:
            return _make(kinds)
        finally:
            _enter(own.fileno())


def _make(kinds: Sequence[Kind]) -> list[socket.socket]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket(*kind)) for kind in kinds]
        for each in made:
            each.setblocking(False)
        stack.pop_all()
    return made


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _discard(making: "asyncio.Future[list[socket.socket]]") -> None:
    if not making.cancelled() and not making.exception():
        for each in making.result():
            each.close()
