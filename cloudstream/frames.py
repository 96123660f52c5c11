"""Frames of a stream that passes through, followed by their headers alone."""

from abc import ABC, abstractmethod

CLOSE = 8
"""The opcode of WebSocket's last frame (RFC 6455 §5.5.1)."""
_MASKED = 0x80
_MASK_SIZE = 4


class FrameFollower(ABC):
    """Knows at each byte how much of a frame is still to come."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._remaining = 0
        self._begin = 0
        """Where the last frame began in the bytes that are followed; negative: before them."""

    def follow(self, data: bytes | memoryview) -> None:
        """See the next bytes, however they are cut."""
        view, position = memoryview(data), 0
        while position < len(view):
            if not self._remaining:
                position = self._follow_header(view, position)
            step = min(self._remaining, len(view) - position)
            self._remaining -= step
            position += step

    def _follow_header(self, view: memoryview, position: int) -> int:
        """Take header bytes; returns the position behind them."""
        self._begin = position - len(self._header)
        while (needed := self._header_size(self._header) - len(self._header)) > 0:
            taken = view[position : position + needed]
            self._header += taken
            position += len(taken)
            if len(taken) < needed:
                return position
        self._remaining = self._read_header(self._header)
        self._header.clear()
        return position

    @abstractmethod
    def _header_size(self, header: bytearray) -> int:
        """How long the header is, as far as what has come of it tells."""

    @abstractmethod
    def _read_header(self, header: bytearray) -> int:
        """Take a complete header; how many bytes of the frame follow it."""


def websocket_header_size(header: bytearray) -> int:
    """How long a WebSocket frame's header is, mask included (RFC 6455 §5.2), as far as it tells."""
    if len(header) < 2:
        return 2
    size = {126: 4, 127: 10}.get(header[1] & 0x7F, 2)
    return size + _MASK_SIZE if header[1] & _MASKED else size


def websocket_payload_size(header: bytearray) -> int:
    """How many bytes a WebSocket frame carries, by its complete header."""
    short = header[1] & 0x7F
    return short if short < 126 else int.from_bytes(header[2 : 4 if short == 126 else 10])


class ClientClose(FrameFollower):
    """Sees in what a WebSocket client sends whether it has closed.

    A client has read everything when it answers a server's Close frame, sends nothing behind its
    own, and leaves it to the server to close the connection (RFC 6455 §7.1.1).
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_closing = False

    @property
    def is_complete(self) -> bool:
        """Whether the client's Close frame has come."""
        return self._is_closing and not self._remaining

    def _header_size(self, header: bytearray) -> int:
        return websocket_header_size(header)

    def _read_header(self, header: bytearray) -> int:
        self._is_closing = header[0] & 0x0F == CLOSE
        return websocket_payload_size(header)
