"""The seam between the tunnel and the kubelet service: one request to be answered."""

from typing import Protocol

from streamkit.wire.exchange import RequestHead, ResponseHead


class Exchange(Protocol):
    """One kubelet request, seen by the code that answers it.

    The owner runs the handler in a task of its own and cancels that task when the caller goes away
    or the channel is lost, whatever the handler is waiting for. A handler that raises a
    ``StreamError`` before ``send_head`` has its error answered as a real HTTP status; after it,
    the channel is reset, so that the caller sees a broken answer and never a short one.
    A handler that returns has answered in full: the owner then calls ``end`` if it did not.
    """

    @property
    def request(self) -> RequestHead:
        """What is asked."""

    async def send_head(self, head: ResponseHead) -> None:
        """Send status and headers; exactly once, before any ``write``."""

    async def write(self, data: bytes) -> None:
        """Queue bytes for the caller; waits while the channel has no room. Safe to cancel."""

    async def end(self) -> None:
        """Half-close towards the caller: nothing more will be written. Idempotent."""

    async def read(self) -> bytes:
        """The caller's next bytes, 64 KiB at most; empty at the caller's half-close, for good."""


class KubeletHandler(Protocol):
    """A backend of the kubelet service: answers any kubelet request."""

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request in full. Concurrent calls are independent of each other."""

    async def close(self) -> None:
        """Let go of what is kept open between requests. Idempotent."""
