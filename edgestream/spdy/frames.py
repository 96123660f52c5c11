"""SPDY/3.1 frames: eight bytes of header, then as many of payload as it says.

The header's first bit tells control frames (version and kind follow) from data frames (the number
of the stream follows). The second word is eight flags and the payload's length.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from streamkit.errors import BadRequest

HEADER = struct.Struct(">II")
CONTROL_BIT = 0x80
"""Of a frame's first byte."""

FIN = 0x01
UNIDIRECTIONAL = 0x02

MAX_CONTROL_PAYLOAD = 1 << 16
"""Bytes; kubectl's frames have less than a hundred."""

_VERSION = 0x8003


class Kind(IntEnum):
    """Kinds of control frames. Others have no meaning here."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    PING = 6
    GOAWAY = 7
    HEADERS = 8


class Status(IntEnum):
    """Why a stream is reset."""

    PROTOCOL_ERROR = 1
    REFUSED_STREAM = 3
    CANCEL = 5


@dataclass(frozen=True, slots=True)
class Control:
    """A control frame."""

    kind: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """A data frame, or as much of one as has come; ``is_last`` where it ends its stream."""

    stream_id: int
    payload: memoryview
    is_last: bool


Frame = Control | Data


class FrameReader:
    """Cuts what a peer sends into frames. Of data frames nothing is held back."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._word = self._flags = self._remaining = 0
        self._payload = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames in what came next.

        Raises BadRequest for a version that is not spoken here, and for a control frame of more
        than MAX_CONTROL_PAYLOAD bytes.
        """
        view, position = memoryview(data), 0
        frames: list[Frame] = []
        while True:
            if len(self._header) < HEADER.size:
                begun = view[position : position + HEADER.size - len(self._header)]
                self._header += begun
                position += len(begun)
                if len(self._header) < HEADER.size:
                    return frames
                self._begin()
            piece = view[position : position + self._remaining]
            position += len(piece)
            self._remaining -= len(piece)
            is_whole = not self._remaining
            if self._word >> 31:
                self._payload += piece
                if is_whole:
                    payload = bytes(self._payload)
                    frames.append(Control(self._word & 0xFFFF, self._flags, payload))
            elif piece or is_whole:
                frames.append(Data(self._word, piece, is_whole and bool(self._flags & FIN)))
            if not is_whole:
                return frames
            self._header.clear()
            self._payload.clear()

    def _begin(self) -> None:
        self._word, rest = HEADER.unpack(self._header)
        self._flags, self._remaining = rest >> 24, rest & 0xFFFFFF
        if self._word >> 31:
            if self._word >> 16 != _VERSION:
                raise BadRequest("the caller speaks another version of SPDY than 3")
            if self._remaining > MAX_CONTROL_PAYLOAD:
                raise BadRequest(f"the caller's SPDY frame has {self._remaining} bytes of headers")


def control_frame(kind: Kind, payload: bytes, flags: int = 0) -> bytes:
    """A control frame's bytes."""
    return HEADER.pack(_VERSION << 16 | kind, flags << 24 | len(payload)) + payload


def data_frame(stream_id: int, payload: bytes = b"", *, is_last: bool = False) -> bytes:
    """A data frame's bytes; at most 2**24 - 1 of payload."""
    return HEADER.pack(stream_id, is_last << 24 | len(payload)) + payload
