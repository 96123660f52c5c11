"""Moments in which a tunnel is not read, for the sake of a channel whose reader lags behind.

v1 can't tell a single sender to wait: what a reader has not taken fills the channel's buffer, and a
full buffer ends the channel. While the tunnel is not read, all its senders wait. So a moment is
short where other channels are there, and between two of them enough is read that the others get on.
A channel of which nothing is taken fills up all the same, and ends soon.
"""

import asyncio

from streamkit.session.reading import Reading
from streamkit.session.session import Session

AMONG_OTHERS = 0.1
"""Seconds that a moment lasts at most where others have channels."""

ALONE = 1.0
"""Seconds that it lasts at most where nobody else has one."""

QUANTUM = 256 * 1024
"""Bytes that are read before the next one."""


class Respite:
    """The pauses of one tunnel, for the crowded channels of its session."""

    def __init__(self, transport: asyncio.ReadTransport, session: Session) -> None:
        self._reading = Reading(transport)
        self._session = session
        self._timer: asyncio.TimerHandle | None = None
        self._read = 0
        self._waited = 0.0

    def message_read(self, size: int) -> None:
        """So much came while some channel was crowded."""
        self._read += size
        if self._read < QUANTUM or self._reading.is_paused:
            return
        self._read, self._waited = 0, 0.0
        self._reading.pause()
        self._wait()

    def end(self) -> None:
        """Read on. Idempotent."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
            self._reading.resume()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(AMONG_OTHERS, self._look_again)

    def _look_again(self) -> None:
        self._waited += AMONG_OTHERS
        session = self._session
        if self._waited < ALONE and session.is_crowded and session.channel_count == 1:
            self._wait()
        else:
            self.end()
