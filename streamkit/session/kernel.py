"""What a tunnel asks of the kernel."""

import socket
import struct
from typing import Any

_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
UNSENT = 128 * 1024
_PROGRESS = struct.Struct("=120xQQ")  # linux/tcp.h: tcpi_bytes_acked, tcpi_bytes_received


def bound_unsent(sock: Any, size: int = UNSENT) -> None:
    """No Nagle, and little unsent data (tcp(7)), so that what comes later can still overtake it."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, size)


def progress(sock: Any) -> tuple[int, int]:
    """How many bytes the connection's other end has acknowledged, and how many have come from it.

    Large messages take long on a slow link; this tells it from one that is dead. Kernels that don't
    count say 0.
    """
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _PROGRESS.size)
    except OSError:
        return 0, 0
    if len(info) < _PROGRESS.size:
        return 0, 0
    acknowledged, received = _PROGRESS.unpack(info)
    return acknowledged, received
