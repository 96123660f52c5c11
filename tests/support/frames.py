"""WebSocket frames byte by byte (RFC 6455 §5.2), for peers that do what no library would."""

import asyncio
import os
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
TEXT_FRAME_LIMIT = 4096
"""A stock edge's write buffer: what is longer leaves in fragments of this size."""


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    fin: bool
    opcode: int
    payload: bytes
    is_masked: bool = False

    @property
    def close_code(self) -> int:
        return int.from_bytes(self.payload[:2])

    @property
    def close_reason(self) -> str:
        return self.payload[2:].decode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool) -> bytes:
    """A frame's bytes."""
    first = (0x80 if fin else 0) | opcode
    flag = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        header = bytes((first, flag | size))
    elif size < 1 << 16:
        header = bytes((first, flag | 126)) + size.to_bytes(2)
    else:
        header = bytes((first, flag | 127)) + size.to_bytes(8)
    if not masked:
        return header + payload
    mask = os.urandom(4)
    return header + mask + _masked(payload, mask)


def fragments(payload: bytes, size: int = TEXT_FRAME_LIMIT) -> bytes:
    """A text message in masked fragments, as a stock edge sends a long one."""
    pieces = [payload[begin : begin + size] for begin in range(0, len(payload), size)] or [b""]
    frames = []
    for number, piece in enumerate(pieces):
        opcode = CONTINUATION if number else TEXT
        frames.append(frame(opcode, piece, fin=number == len(pieces) - 1, masked=True))
    return b"".join(frames)


def close_frame(code: int, reason: str = "", *, masked: bool) -> bytes:
    """A frame that closes."""
    return frame(CLOSE, code.to_bytes(2) + reason.encode(), masked=masked)


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame. Raises IncompleteReadError at the connection's end."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
    mask = await reader.readexactly(4) if second & 0x80 else b""
    payload = await reader.readexactly(size)
    if mask:
        payload = _masked(payload, mask)
    return Frame(bool(first & 0x80), first & 0x0F, payload, bool(mask))


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    keys = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size) if size else b""
