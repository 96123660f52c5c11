"""One connection to a server in a pod."""

import asyncio
import contextlib
import socket

from edgestream.kubelet.go_errors import endpoint, reason
from edgestream.kubelet.tcp_peers import has_let_go
from streamkit.errors import BackendError

READ_SIZE = 1 << 15
"""Bytes of one read, the largest piece that is held here for a caller who does not take it."""


class ForwardingFailed(BackendError):
    """A connection to a port was not made, or broke; the sentence is a kubelet's."""


class PodConnection:
    """A connected socket, and one that asks the kernel about it; ``place`` is for errors.

    The two directions are independent of each other; each is for one task at a time. Cancelling any
    wait is safe if ``close`` follows.
    """

    def __init__(self, connected: socket.socket, kernel: socket.socket, place: str) -> None:
        self._socket = connected
        self._kernel = kernel
        self._place = place
        self._route = _route(connected)
        self._is_reading = False

    async def read(self) -> bytes:
        """The server's next bytes; empty at its end. Raises ForwardingFailed if it breaks."""
        self._is_reading = True
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, READ_SIZE)
        except OSError as error:
            raise ForwardingFailed(
                f'failed to execute portforward in network namespace "{self._place}":'
                f" read {self._route}: read: {reason(error)}"
            ) from error
        finally:
            self._is_reading = False

    async def write(self, data: bytes) -> bool:
        """Send; waits while the server does not read. False where the server reads no more.

        Nothing is sent to a server that has closed while its output is still unread here: the
        kernel would throw that away.
        """
        if not self._is_reading and self.is_abandoned:
            return False
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except OSError:
            return False
        return True

    def write_eof(self) -> None:
        """Half-close: the server reads the end, and may go on to write."""
        with contextlib.suppress(OSError):  # the server was faster; reading tells how it ended
            self._socket.shutdown(socket.SHUT_WR)

    @property
    def is_abandoned(self) -> bool:
        """Whether no process of the pod has the other end open any more."""
        return has_let_go(self._socket, self._kernel)

    def close(self) -> None:
        """Drop the connection at once, both ways. Idempotent."""
        self._socket.close()
        self._kernel.close()


def _route(connected: socket.socket) -> str:
    """Both ends, as Go names a connection."""
    name = "tcp6" if connected.family == socket.AF_INET6 else "tcp4"
    own, peer = connected.getsockname(), connected.getpeername()
    return f"{name} {endpoint(*own[:2])}->{endpoint(*peer[:2])}"
