"""Unsigned LEB128 integers of up to 64 bits, as Go's ``encoding/binary`` writes them."""

from streamkit.errors import MalformedMessage

MAX_LENGTH = 10
MAX_VALUE = (1 << 64) - 1


def encode_uvarint(value: int) -> bytes:
    """The shortest encoding of a value in 0 .. 2**64-1."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_uvarint(data: bytes | memoryview, position: int = 0) -> tuple[int, int]:
    """Read one integer; returns it and the position behind it.

    Raises MalformedMessage where the data ends inside the integer, where it is longer than ten
    bytes, or where it does not fit 64 bits. Longer than needed is accepted, as Go does.
    """
    value = shift = 0
    for index in range(position, min(len(data), position + MAX_LENGTH)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > MAX_VALUE:
                raise MalformedMessage("a message has an integer that does not fit 64 bits")
            return value, index + 1
        shift += 7
    if len(data) - position >= MAX_LENGTH:
        raise MalformedMessage("a message has an integer longer than 10 bytes")
    raise MalformedMessage("a message ends inside its header")
