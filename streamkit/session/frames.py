"""A message's pieces as one WebSocket frame, without a copy that can be avoided.

picows frames one buffer. Here a server's frame, which is not masked, goes out piece by piece; a
client's is joined once, with room in front for the frame's header, and masked where it lies.
"""

import struct

from picows import WSMsgType, WSTransport

from streamkit.wire.message import Pieces

_ROOM = bytes(14)
"""The longest header of a frame (RFC 6455 §5.2)."""
_SHORT = struct.Struct("!BBH")
_LONG = struct.Struct("!BBQ")
_FIN = 0x80


def send_frame(transport: WSTransport, kind: WSMsgType, message: Pieces) -> int:
    """Send a message as one frame; returns its size in bytes without the frame's header."""
    if len(message) == 1:
        transport.send(kind, message[0])
        return len(message[0])
    size = sum(map(len, message))
    if transport.is_client_side:
        whole = bytearray().join((_ROOM, *message))
        transport.send_reuse_external_bytearray(kind, whole, len(_ROOM))
    else:
        header = _header(kind, size) + bytes(message[0])
        transport.underlying_transport.writelines((header, *message[1:]))
    return size


def _header(kind: WSMsgType, size: int) -> bytes:
    first = _FIN | kind.value
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return _SHORT.pack(first, 126, size)
    return _LONG.pack(first, 127, size)
