"""What has become of the other end of a connection on this host.

The end of a stream shows only behind all of its data. Whoever writes before it has read that far
has the kernel reset the connection, and what was still to be read is lost. Nor does it show whether
the other end still listens. But the other end is a socket of this host too, and the kernel tells
its state (``sock_diag``, linux/inet_diag.h), to a socket in the same network namespace.
"""

import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass

KERNEL = (socket.AF_NETLINK, socket.SOCK_RAW, 4)
"""Family, kind and protocol of a socket that asks the kernel, in the order of ``socket.socket``."""

_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_ESTABLISHED = 1
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")  # struct inet_diag_req_v2
_MESSAGE = struct.Struct("=BB66xI")  # struct inet_diag_msg: family, state, ..., inode
_ERROR = struct.Struct("=i")
_ANSWER_SIZE = 4096


@dataclass(frozen=True, slots=True)
class _Peer:
    """A socket as the kernel tells of it; without an inode no process has it open any more."""

    state: int
    inode: int


_GONE = _Peer(state=0, inode=0)


def has_closed(connection: socket.socket) -> bool:
    """Whether the peer of a connected TCP socket has ended its direction, or all of it.

    The connection has to be in this thread's network namespace. False where the kernel can't tell.
    """
    try:
        with socket.socket(*KERNEL) as kernel:
            kernel.setblocking(False)  # it answers within the call that asks
            peer = _peer_of(connection, kernel)
    except OSError:
        return False
    return peer is not None and peer.state > _ESTABLISHED


def has_let_go(connection: socket.socket, kernel: socket.socket) -> bool:
    """Whether no process has the peer open any more, so that nobody reads there.

    ``kernel`` is a socket of KERNEL's kind that does not block, in the connection's network
    namespace. The peer's last bytes may still be on their way. False where the kernel can't tell.
    """
    peer = _peer_of(connection, kernel)
    return peer is not None and peer.state != _ESTABLISHED and not peer.inode


def _peer_of(connection: socket.socket, kernel: socket.socket) -> _Peer | None:
    try:
        return _ask(kernel, _request(connection))
    except OSError:
        return None


def _request(connection: socket.socket) -> bytes:
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
    return _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + request


def _ask(kernel: socket.socket, request: bytes) -> _Peer | None:
    kernel.send(request)
    answer = kernel.recv(_ANSWER_SIZE)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind == _SOCK_DIAG_BY_FAMILY:
        _, state, inode = _MESSAGE.unpack_from(answer, _HEADER.size)
        return _Peer(state, inode)
    if kind == _NLMSG_ERROR and _ERROR.unpack_from(answer, _HEADER.size)[0] == -errno.ENOENT:
        return _GONE
    return None
