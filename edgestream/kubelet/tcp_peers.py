"""Whether the other end of a connection on this host has been closed.

The end of a stream shows only behind all of its data. Whoever writes before it has read that far
has the kernel reset the connection, and what was still to be read is lost. But the other end is a
socket of this host too, and the kernel tells its state (``sock_diag``, linux/inet_diag.h).
"""

import ipaddress
import socket
import struct

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_ESTABLISHED = 1
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")  # struct inet_diag_req_v2
_ANSWER_SIZE = 4096


def has_closed(connection: socket.socket) -> bool:
    """Whether the peer of a connected TCP socket has closed. False where the kernel can't tell."""
    try:
        own, peer = connection.getsockname(), connection.getpeername()
        request = _REQUEST.pack(
            connection.family,
            socket.IPPROTO_TCP,
            0,
            _ALL_STATES,
            peer[1].to_bytes(2),
            own[1].to_bytes(2),
            ipaddress.ip_address(peer[0]).packed.ljust(16, b"\0"),
            ipaddress.ip_address(own[0]).packed.ljust(16, b"\0"),
            0,
            _NO_COOKIE,
        )
        size = _HEADER.size + len(request)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.setblocking(False)  # it answers within the call that asks
            kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + request)
            answer = kernel.recv(_ANSWER_SIZE)
    except OSError:
        return False
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return False
    state = answer[_HEADER.size + 1]  # struct inet_diag_msg: family, state, ...
    return state != _ESTABLISHED
