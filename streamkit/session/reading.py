"""Pausing and resuming what a connection reads, without losing what it has read already."""

import asyncio


class Reading:
    """Whether a transport is read from. A pause begins with the next turn of the event loop.

    A TLS transport of aiofastnet that is paused while it hands over what it has read forgets the
    rest of it, until more comes from the network. One turn later it has handed over everything.
    """

    __slots__ = ("_transport", "is_paused")

    def __init__(self, transport: asyncio.ReadTransport) -> None:
        self._transport = transport
        self.is_paused = False
        """Whether nothing more shall be read, though what was read may still be handed over."""

    def pause(self) -> None:
        """Read nothing more for now. Idempotent."""
        if not self.is_paused:
            self.is_paused = True
            asyncio.get_running_loop().call_soon(self._pause)

    def resume(self) -> None:
        """Read on. Idempotent."""
        self.is_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _pause(self) -> None:
        if self.is_paused and not self._transport.is_closing():
            self._transport.pause_reading()
