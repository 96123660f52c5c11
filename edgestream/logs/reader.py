"""A container's log, as ``kubectl logs`` shows it.

The semantics are the kubelet's, and more is delivered where it falls short: nothing is lost at a
rotation, a truncated file is read anew, ``stream`` is honoured, and ``tail_lines`` and ``since_ns``
reach back into rotated files. Without either of these two a log begins with its current file.
"""

import asyncio
import errno
import os
import time
from collections.abc import AsyncGenerator, Callable
from typing import Self, TypeVar, TypeVarTuple

from edgestream.logs.failures import cannot_open, cannot_read, cannot_resolve
from edgestream.logs.files import DAMAGED, RecordFile
from edgestream.logs.follow import ContainerState, Follower
from edgestream.logs.formatter import LogFormatter
from edgestream.logs.options import LogOptions
from edgestream.logs.rotated import Rotations
from edgestream.logs.timestamp import SECOND
from edgestream.logs.watch import LogWatcher

__all__ = ["ContainerState", "LogReader"]

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

CHUNK_MAX = 256 * 1024

DISORDER = 2 * SECOND
"""How far, in nanoseconds, a record may come behind a younger one; the two output streams of a
container are written independently of each other."""


class LogReader:
    """One reading of one log. Holds open files until it is closed."""

    def __init__(
        self,
        path: str,
        options: LogOptions,
        *,
        state: ContainerState,
        watcher: LogWatcher,
        now: Callable[[], float],
    ) -> None:
        self._options = options
        self._state = state
        self._watcher = watcher
        self._now = now
        self._directory = os.path.dirname(path)
        self._rotations = Rotations(path)
        self._formatter = LogFormatter(options)
        self._current, self._older = self._rotations.open_current()
        self._files: list[RecordFile] = [self._current]
        self._follower: Follower | None = None
        self._ready = b""
        self._ended = False

    @classmethod
    async def open(
        cls,
        path: str,
        options: LogOptions,
        *,
        state: ContainerState,
        watcher: LogWatcher,
        now: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Open the log at ``path``, find where to begin, and format the first records.

        ``state`` and ``now``, a monotonic clock in seconds, are used only to follow. Raises
        KubeletAnswer (400, no Content-Type) for all that can be known to be wrong before the first
        byte of output. Safe to cancel.
        """
        reader = cls(_resolved(path), options, state=state, watcher=watcher, now=now)
        try:
            await reader._begin()
        except BaseException:
            await reader.close()
            raise
        return reader

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The output in pieces of up to 256 KiB, none empty, to be iterated once.

        A follower's pieces come as the records are written; it ends when the container does, or by
        the limits of the options. Raises KubeletAnswer when the log turns out to be unreadable on
        the way. Closing or leaving the iterator releases all files and watches.
        """
        try:
            while True:
                for begin in range(0, len(self._ready), CHUNK_MAX):
                    yield self._ready[begin : begin + CHUNK_MAX]
                if self._ended or self._formatter.done:
                    break
                # Formatting keeps the loop busy; let others have their turn.
                await asyncio.sleep(0)
                await self._advance()
            if self._formatter.failure is not None:
                raise self._formatter.failure
        finally:
            await self.close()

    async def close(self) -> None:
        """Release files and watches. Idempotent."""
        if self._follower is not None:
            self._follower.close()
        for file in self._files:
            file.close()

    async def _begin(self) -> None:
        if self._options.tail_lines is not None:
            await self._seek_tail(self._options.tail_lines)
        elif self._options.since_ns is not None:
            await self._seek_since(self._options.since_ns - DISORDER)
        while not self._ended and self._follower is None and not self._formatter.done:
            await self._read_history()
            if self._formatter.has_format:
                break
        if self._formatter.failure is not None and not self._ready:
            raise self._formatter.failure

    async def _seek_tail(self, records: int) -> None:
        missing = await _in_thread(self._current, self._current.seek_tail, records)
        while missing and (file := self._open_older()) is not None:
            missing = await _in_thread(file, file.seek_tail, missing)

    async def _seek_since(self, ns: int) -> None:
        file: RecordFile | None = self._current
        while file is not None:
            first = await _in_thread(file, file.first_record)
            if first.endswith(b"\n") or (first and not self._options.follow):
                parser = self._formatter.choose_parser(first)
                record = parser(first)
                if record is not None and record.ns < ns:
                    await _in_thread(file, file.seek_since, ns, parser)
                    return
            file = self._open_older()

    def _open_older(self) -> RecordFile | None:
        """The next older file, put in front of the others; those that are gone are left out."""
        while self._older:
            file = self._older.pop().open()
            if file is not None:
                self._files.insert(0, file)
                return file
        return None

    async def _advance(self) -> None:
        """Format some more."""
        if self._follower is None:
            await self._read_history()
        elif records := await self._follower.records():
            self._ready = self._formatter.feed(records)
        else:
            self._ready = b""
            self._ended = True

    async def _read_history(self) -> None:
        """Format some more of what is in the files already."""
        file = self._files[0]
        if file is self._current and self._options.follow:
            self._current.restart_if_rewritten()
        if records := await file.records():
            self._ready = self._formatter.feed(records)
        elif file is not self._current:
            # Nothing will complete its last record; that line must not run into the next file's.
            rest = file.rest()
            self._ready = self._formatter.feed_unterminated(rest + b"\n") if rest else b""
            self._files.remove(file)
            file.close()
        elif not self._options.follow:
            self._ready = self._formatter.feed_unterminated(file.rest())
            self._ended = True
        else:
            self._ready = b""
            self._follower = Follower(
                self._current,
                self._rotations,
                state=self._state,
                watch=self._watcher.watch(self._directory),
                now=self._now,
            )


def _resolved(path: str) -> str:
    """The path without symbolic links: the directory to watch is the one of the file itself."""
    if not path:
        raise cannot_open(path, FileNotFoundError(errno.ENOENT, ""))
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise cannot_resolve(path, error) from error


async def _in_thread(
    file: RecordFile, search: Callable[[*Arguments], Result], *args: *Arguments
) -> Result:
    try:
        return await asyncio.to_thread(search, *args)
    except DAMAGED as error:
        raise cannot_read(file.path, error) from error
