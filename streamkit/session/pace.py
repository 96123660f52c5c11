"""How fast a socket drains, and from that how large a message may be.

On a fast link large messages cost least. On a slow one they would hold up a keystroke: a message
should take no longer than a moment to leave.
"""

MOMENT = 0.02
"""Seconds that one message may take."""
SMALLEST = 16 * 1024
LARGEST = 128 * 1024


class Pace:
    """Watches one socket's writing. Sizes in bytes, times in seconds of any one clock."""

    def __init__(self, size: int) -> None:
        self.size = size
        """What a message should not exceed: SMALLEST .. LARGEST, a power of two."""
        self._burst = 0
        self._filled_at = 0.0

    def sent(self, size: int) -> None:
        """Bytes were handed to the socket."""
        self._burst += size

    def filled(self, now: float) -> None:
        """The socket takes no more."""
        self._filled_at = now

    def drained(self, now: float) -> bool:
        """The socket takes more again; whether ``size`` has changed."""
        seconds = max(now - self._filled_at, 1e-6)
        target = self._burst / seconds * MOMENT
        self._burst = 0
        before = self.size
        if target >= 2 * self.size and self.size < LARGEST:
            self.size *= 2
        elif target < self.size / 2 and self.size > SMALLEST:
            self.size //= 2
        return self.size != before
