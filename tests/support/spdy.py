"""SPDY/3.1 frames, as far as a test has to tell them apart."""

import asyncio
import struct
from dataclasses import dataclass

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
DATA = 0
_HEADER = struct.Struct(">II")
_CONTROL = 0x80000000


@dataclass(frozen=True, slots=True)
class SpdyFrame:
    """One frame; ``kind`` is DATA or a control frame's type, ``stream`` is 0 where it has none."""

    kind: int
    stream: int
    is_last: bool
    payload: bytes
    raw: bytes


def parse(data: bytes) -> tuple[SpdyFrame | None, bytes]:
    """The first frame of the bytes and what follows it; None while it is not complete."""
    if len(data) < _HEADER.size:
        return None, data
    word, flags_and_size = _HEADER.unpack_from(data)
    end = _HEADER.size + (flags_and_size & 0xFFFFFF)
    if len(data) < end:
        return None, data
    payload = data[_HEADER.size : end]
    kind, stream = DATA, word
    if word & _CONTROL:
        kind = word & 0xFFFF
        named = kind in (SYN_STREAM, SYN_REPLY, RST_STREAM)
        stream = int.from_bytes(payload[:4]) if named else 0
    is_last = bool(flags_and_size >> 24 & 1) and kind != PING
    return SpdyFrame(kind, stream, is_last, payload, data[:end]), data[end:]


def parse_all(data: bytes) -> list[SpdyFrame]:
    """The complete frames of the bytes."""
    frames: list[SpdyFrame] = []
    while True:
        frame, data = parse(data)
        if frame is None:
            return frames
        frames.append(frame)


async def read_spdy_frame(reader: asyncio.StreamReader) -> SpdyFrame:
    """The next frame. Raises IncompleteReadError at the connection's end."""
    header = await reader.readexactly(_HEADER.size)
    size = int.from_bytes(header[5:])
    frame, _ = parse(header + await reader.readexactly(size))
    assert frame
    return frame


_REPLY_HEADERS = b"\x02a\x00\x00\x00\x00\xff\xff"
_FIRST_REPLY_HEADERS = b"x\xf9\xe3\xc6\xa7\xc2b```\x00\x00\x00\x00\xff\xff"
"""No headers, compressed: the first block of a connection begins with the dictionary's checksum."""


def reply(stream: int) -> bytes:
    """The server's answer to an opened stream; stream 1 has to be answered first."""
    headers = _FIRST_REPLY_HEADERS if stream == 1 else _REPLY_HEADERS
    return _control(SYN_REPLY, stream.to_bytes(4) + headers)


def rst_stream(stream: int) -> bytes:
    """Cancels a stream."""
    return _control(RST_STREAM, stream.to_bytes(4) + (5).to_bytes(4))


def goaway(last_stream: int) -> bytes:
    """Takes no more streams than that one."""
    return _control(GOAWAY, last_stream.to_bytes(4) + bytes(4))


def data_frame(stream: int, payload: bytes, *, is_last: bool = False) -> bytes:
    """A piece of a stream."""
    return _HEADER.pack(stream, is_last << 24 | len(payload)) + payload


def _control(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(_CONTROL | 3 << 16 | kind, len(payload)) + payload
