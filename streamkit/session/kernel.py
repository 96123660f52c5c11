"""What a tunnel asks of the kernel."""

import socket
from typing import Any

_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
_UNSENT = 128 * 1024


def bound_unsent(sock: Any) -> None:
    """No Nagle, and little unsent data (tcp(7)), so that what comes later can still overtake it."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT)
