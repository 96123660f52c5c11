"""The framing unit inside the tunnel, v1: ``uvarint connect id, uvarint type, data``.

One WebSocket message is one protocol message; there is no length field. (KubeEdge
``pkg/stream/message.go``.)
"""

from dataclasses import dataclass
from enum import IntEnum

from streamkit.errors import MalformedMessage
from streamkit.wire.varint import decode_uvarint, encode_uvarint

CONNECT_PATH = "/v1/kubeedge/connect"
NODE_NAME_HEADER = "SessionHostNameOverride"
NODE_IP_HEADER = "SessionInternalIP"
"""What an edge asks for and says in its WebSocket handshake (KubeEdge ``edge/pkg/edgestream``)."""

MAX_DATA = 1 << 20
"""A stock peer silently drops what a message carries beyond this many bytes after its header."""


Pieces = tuple[bytes | memoryview, ...]
"""A message that is to be sent, as the buffers it stands in: to join them would copy its data."""


class MessageType(IntEnum):
    """KubeEdge's message types. The numbers are the wire's."""

    LOGS_CONNECT = 0
    EXEC_CONNECT = 1
    METRIC_CONNECT = 2
    DATA = 3
    REMOVE_CONNECT = 4
    CLOSE_CONNECT = 5
    ATTACH_CONNECT = 6


CONNECT_TYPES = frozenset(
    (
        MessageType.LOGS_CONNECT,
        MessageType.EXEC_CONNECT,
        MessageType.METRIC_CONNECT,
        MessageType.ATTACH_CONNECT,
    )
)


@dataclass(frozen=True, slots=True)
class Message:
    """One decoded message; ``type`` is an int, since a peer may send types not known here."""

    channel_id: int
    type: int
    data: bytes | memoryview = b""


def encode_header(channel_id: int, message_type: int) -> bytes:
    """The bytes in front of a message's data."""
    return encode_uvarint(channel_id) + encode_uvarint(message_type)


def encode_message(channel_id: int, message_type: int, data: bytes = b"") -> bytes:
    """A whole message."""
    return encode_header(channel_id, message_type) + data


def decode_header(payload: bytes) -> tuple[int, int, int]:
    """Channel id, type, and the position behind them.

    Raises MalformedMessage for an empty message, a header that is cut, or an over-long integer.
    """
    if len(payload) > 1 and payload[0] < 0x80 and payload[1] < 0x80:
        return payload[0], payload[1], 2
    if not payload:
        raise MalformedMessage("an empty message arrived")
    channel_id, position = decode_uvarint(payload)
    message_type, position = decode_uvarint(payload, position)
    return channel_id, message_type, position


def decode_message(payload: bytes) -> Message:
    """Take a message apart. The data is a view of the payload, not a copy.

    Raises MalformedMessage for an empty message, a header that is cut, or an over-long integer.
    """
    channel_id, message_type, position = decode_header(payload)
    return Message(channel_id, message_type, memoryview(payload)[position:])
