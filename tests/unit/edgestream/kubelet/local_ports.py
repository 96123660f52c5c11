"""The ports of this host, in the place of a pod's."""

import asyncio
import socket

from edgestream.kubelet.pod_connection import ForwardingFailed, PodConnection
from edgestream.kubelet.tcp_peers import KERNEL


class LocalPorts:
    """They are connected to as those of a pod are."""

    async def connect(self, port: int) -> PodConnection:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError as error:
            sock.close()
            raise ForwardingFailed("refused") from error
        kernel = socket.socket(*KERNEL)
        kernel.setblocking(False)
        return PodConnection(sock, kernel, "host")

    def failure(self, port: int, error: ForwardingFailed) -> str:
        return f"port {port}: {error}"
