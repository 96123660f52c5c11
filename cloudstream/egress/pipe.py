"""Two connections that are one: what comes from either goes to the other."""

import asyncio
from typing import Any

from streamkit.session.reading import Reading

HIGH_WATER = 256 * 1024


class PipeEnd(asyncio.Protocol):
    """One of the two. A side that is slow stops the other one's reading; ends and breaks pass."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.reading: Reading | None = None
        self.other: PipeEnd | None = None
        self.is_over = False
        self._has_ended = False

    def join(self, other: "PipeEnd") -> None:
        """Pass on to each other from now on. What broke off meanwhile breaks off the other one."""
        self.other, other.other = other, self
        if self.is_over or other.is_over:
            self.abort()
            other.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.reading = Reading(self.transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        if self.other and not self.other.is_over:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._has_ended = True
        other = self.other
        if other is None or other.is_over:
            return False
        if other._has_ended or not other.transport.can_write_eof():
            other.close()
            return False
        other.transport.write_eof()
        return bool(self.transport.can_write_eof())

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        if self.other:
            if exc:
                self.other.abort()
            else:
                self.other.close()

    def pause_writing(self) -> None:
        if self.other and self.other.reading:
            self.other.reading.pause()

    def resume_writing(self) -> None:
        if self.other and self.other.reading:
            self.other.reading.resume()

    def close(self) -> None:
        """End the connection when what it has to send is sent. Idempotent."""
        if self.transport and not self.is_over:
            self.transport.close()

    def abort(self) -> None:
        """End the connection now. Idempotent."""
        if self.transport and not self.is_over:
            self.transport.abort()
