"""What is written to a log from now on.

The directory's events are hints; the truth is what a look at the files shows, at every wake-up and
at least once a second. A look compares the file under the log's name with the open one, so that a
rotation is seen whenever it happened. The runtime opens the new file before it has written all it
has for the old one: the old one is read to its end once more after a pause before the new one
begins, and for a while after that.

Lines that were written shortly before the container ended may show shortly after: the end is
settled by one more look after a pause.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from edgestream.logs.files import BLOCK, LogFile, RecordFile
from edgestream.logs.rotated import Rotations
from edgestream.logs.watch import DirectoryWatch
from streamkit.errors import StreamError

LOOK_INTERVAL = 1.0
"""Seconds between two looks at a quiet log, and at least between two questions for the state."""
STATE_TIMEOUT = 2.0
"""Seconds to wait for the container's state; without an answer it is taken to run."""
BUSY_GAP = 0.01
"""Seconds at least between two looks at a log whose end has been reached."""
END_PAUSE = 0.1
"""Seconds from the container's end to the last look."""
ROTATION_PAUSE = 0.05
"""Seconds from a rotation to the switch to the new file."""
LATE_PERIOD = 2.0
"""Seconds for which a rotated file is still looked at after the switch."""


class ContainerState(Protocol):
    """Tells whether a container still runs."""

    async def is_running(self) -> bool:
        """Whether more can be written to its log.

        Raises StreamError when the container is gone. A runtime that is away for a while is no
        reason to end: the implementation says True then. Safe to cancel.
        """


class Follower:
    """The records that are added to a log, for as long as its container runs."""

    def __init__(
        self,
        current: LogFile,
        rotations: Rotations,
        *,
        state: ContainerState,
        watch: DirectoryWatch,
        now: Callable[[], float],
    ) -> None:
        self._current: RecordFile = current
        self._rotations = rotations
        self._state = state
        self._watch = watch
        self._now = now
        self._next: deque[RecordFile] = deque()
        self._switch_at = 0.0
        self._late: list[tuple[float, LogFile]] = []
        self._ask_at = self._look_at = now()
        self._behind = False
        self._ends_at: float | None = None

    async def records(self) -> bytes:
        """The next records, waited for; empty at the end.

        Raises KubeletAnswer when a file can't be read. After a cancel only ``close`` is of use.
        """
        while True:
            if not self._behind and (gap := self._look_at - self._now()) > 0:
                await asyncio.sleep(gap)
            self._watch.arm()
            self._look_at = self._now() + BUSY_GAP
            records = await self._at_hand()
            self._behind = len(records) >= BLOCK // 2
            if records:
                return records
            if self._ends_at is None and self._now() >= self._ask_at:
                if await self._runs():
                    self._ask_at = self._now() + LOOK_INTERVAL
                else:
                    self._ends_at = self._now() + END_PAUSE
                continue
            if self._ends_at is not None and self._now() >= self._ends_at and not self._next:
                return b""
            await self._pause()

    def close(self) -> None:
        """Close the watch and all files. Idempotent."""
        self._watch.close()
        for file in (self._current, *self._next, *(late for _, late in self._late)):
            file.close()

    async def _at_hand(self) -> bytes:
        """Records that can be had without waiting for anybody to write them."""
        while True:
            if records := await self._late_records():
                return records
            if isinstance(self._current, LogFile):
                self._current.restart_if_rewritten()
            if records := await self._current.records():
                return records
            if not self._next and not self._look_for_rotation():
                return b""
            # With several files waiting, the runtime is long done with this one.
            if len(self._next) == 1 and self._now() < self._switch_at:
                return b""
            self._switch()

    async def _late_records(self) -> bytes:
        for until, file in [*self._late]:
            if records := await file.records():
                return records
            if self._now() >= until:
                self._late.remove((until, file))
                file.close()
        return b""

    def _look_for_rotation(self) -> bool:
        if not isinstance(self._current, LogFile):
            return False
        if not self._rotations.rotated_away(self._current):
            return False
        self._next.extend(self._rotations.successors(self._current))
        self._switch_at = self._now() + ROTATION_PAUSE
        return bool(self._next)

    def _switch(self) -> None:
        if isinstance(self._current, LogFile):
            self._late.append((self._now() + LATE_PERIOD, self._current))
        else:
            self._current.close()
        self._current = self._next.popleft()

    async def _runs(self) -> bool:
        try:
            async with asyncio.timeout(STATE_TIMEOUT):
                return await self._state.is_running()
        except TimeoutError:
            return True
        except StreamError:
            return False

    async def _pause(self) -> None:
        """Wait for a change, or for the next thing to do."""
        due = self._ask_at if self._ends_at is None else self._ends_at
        if self._next:
            due = min(due, self._switch_at)
        await self._watch.wait(max(0.0, due - self._now()))
