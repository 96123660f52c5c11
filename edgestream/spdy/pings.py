"""SPDY pings, which may have to wait for what the server still has to say.

A server closes as soon as the kernel has taken all that a command wrote. If anything arrives for
the closed connection, the kernel resets it and throws away what it has not delivered, which over a
slow link can be megabytes. A client that has nothing to say still sends a ping every five seconds
(k8s.io/apimachinery ``httpstream/spdy``), and waits for its answer before it sends another.
"""

from edgestream.spdy.frames import CONTROL_BIT, HEADER, Kind, control_frame

_PING_SIZE = HEADER.size + 4
_PING = control_frame(Kind.PING, bytes(4))[: HEADER.size]


class PingFilter:
    """Takes the pings out of what a SPDY client sends; other streams pass as they are."""

    def __init__(self) -> None:
        self._is_spdy: bool | None = None
        self._begun = b""
        self._remaining = 0

    @property
    def is_in_frame(self) -> bool:
        """Whether the data that was passed on ends inside a frame."""
        return self._remaining > 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The data without its pings, and the pings. A header is held back until it is whole."""
        if self._is_spdy is None:
            self._is_spdy = data[0] >= CONTROL_BIT  # a client begins with a control frame
        if not self._is_spdy:
            return data, b""
        if len(data) <= self._remaining:
            self._remaining -= len(data)
            return data, b""
        data, self._begun = self._begun + data, b""
        others, pings = [], []
        position = 0
        while position < len(data):
            if not self._remaining:
                header = data[position : position + HEADER.size]
                is_ping = header == _PING
                size = _PING_SIZE if is_ping else HEADER.size
                if len(data) - position < size:
                    self._begun = data[position:]
                    break
                if is_ping:
                    pings.append(data[position : position + size])
                    position += size
                    continue
                self._remaining = HEADER.size + int.from_bytes(header[5:])
            step = min(self._remaining, len(data) - position)
            others.append(data[position : position + step])
            self._remaining -= step
            position += step
        return b"".join(others), b"".join(pings)
