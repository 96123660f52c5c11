"""Log files, plain and gzipped, as streams of whole records.

A read takes what the page cache has at once and without a thread; only what has to come from the
disk is read in one. Closing a file while such a read is under way is safe: the outcome is dropped.
"""

import asyncio
import gzip
import os
import stat
import zlib
from abc import ABC, abstractmethod
from typing import Self

from edgestream.logs.failures import cannot_open, cannot_read
from edgestream.logs.record import Parser
from edgestream.logs.seek import seek_gzip_tail, since_offset, tail_offset

BLOCK = 128 * 1024
"""Bytes read, and formatted, in one step: about a millisecond's work."""

RECORD_MAX = 16 * 1024 * 1024
"""A record up to this size is held until it is whole; the runtime's have 16 KiB at most."""

DAMAGED = (OSError, EOFError, zlib.error)
"""What reading a file can raise; the last two by a gzipped one that is cut or spoilt."""

_FIRST_RECORD_STEP = 4096
_HEAD = 256
"""Bytes that tell one beginning of a file from another: the first record's time is in them."""


def open_regular(path: str) -> int:
    """Open a regular file for reading, and nothing else: no link, pipe or device.

    Raises KubeletAnswer (400) with the kubelet's sentence.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise cannot_open(path, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise cannot_open(path, OSError("not a regular file"))
    return fd


class RecordFile(ABC):
    """A file of records that is read from front to back.

    ``path`` is where it was when it was opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._held: list[bytes | bytearray] = []

    async def records(self) -> bytes:
        """The next whole records, each with its newline; empty at the end of the file, for now.

        A record longer than ``RECORD_MAX`` comes in parts, of which only the last ends with a
        newline. Raises KubeletAnswer when the file can't be read. After a cancel only ``close`` is
        of use.
        """
        size = sum(map(len, self._held))
        while True:
            try:
                block = await self._read()
            except DAMAGED as error:
                raise cannot_read(self.path, error) from error
            if not block:
                return b""
            size += len(block)
            end = block.rfind(b"\n") + 1
            if not end and size >= RECORD_MAX:
                end = len(block)
            if end:
                whole = b"".join((*self._held, memoryview(block)[:end]))
                self._held = [block[end:]] if end < len(block) else []
                return whole
            self._held.append(block)

    def rest(self) -> bytes:
        """What was read behind the last newline; it is given away and not returned again."""
        rest = b"".join(self._held)
        self._held.clear()
        return rest

    @abstractmethod
    async def _read(self) -> bytes | bytearray:
        """The next block; empty at the end of the file."""

    @abstractmethod
    def first_record(self) -> bytes:
        """The record that the file begins with, as far as it is there. Blocks."""

    @abstractmethod
    def seek_tail(self, records: int) -> int:
        """Go to where the last ``records`` records begin; how many are missing. Blocks."""

    @abstractmethod
    def seek_since(self, ns: int, parser: Parser) -> None:
        """Leave out records that are surely older than ``ns``. Blocks."""

    @abstractmethod
    def close(self) -> None:
        """Idempotent."""


class LogFile(RecordFile):
    """A plain log file, which may still grow."""

    def __init__(self, path: str, fd: int) -> None:
        super().__init__(path)
        self._fd = fd
        self._offset = 0
        status = os.fstat(fd)
        self.identity = (status.st_dev, status.st_ino)
        """Device and inode: the file itself, under whatever name."""
        self._head = self._read_head()

    @classmethod
    def open(cls, path: str) -> Self:
        """Raises KubeletAnswer as ``open_regular`` does."""
        return cls(path, open_regular(path))

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._fd).st_size

    @property
    def head(self) -> bytes:
        """The first bytes of the file, as they were last seen."""
        return self._head

    def restart_if_rewritten(self) -> bool:
        """Go back to the beginning if the file was truncated since the last call.

        It is told by a size below what was read, or by another beginning: a file that has grown
        past the place again by now begins with another time.
        """
        head = self._read_head()
        rewritten = self.size < self._offset or not head.startswith(self._head)
        self._head = head
        if rewritten:
            self._offset = 0
            self._held.clear()
        return rewritten

    async def _read(self) -> bytes | bytearray:
        room = min(BLOCK, self.size - self._offset)
        if room <= 0:
            return b""
        block: bytes | bytearray = self._read_cached(room)
        if not block:
            block = await asyncio.to_thread(os.pread, self._fd, room, self._offset)
        self._offset += len(block)
        return block

    def _read_cached(self, room: int) -> bytearray:
        block = bytearray(room)
        try:
            count = os.preadv(self._fd, [block], self._offset, os.RWF_NOWAIT)
        except OSError:  # not in the page cache, or the file system can't tell
            count = 0
        del block[count:]
        return block

    def _read_head(self) -> bytes:
        return os.pread(self._fd, _HEAD, 0)

    def first_record(self) -> bytes:
        text = b""
        while len(text) < RECORD_MAX and not text.endswith(b"\n"):
            block = os.pread(self._fd, max(_FIRST_RECORD_STEP, len(text)), len(text))
            if not block:
                break
            text += block[: block.find(b"\n") + 1] or block
        return text

    def seek_tail(self, records: int) -> int:
        self._offset, missing = tail_offset(self._fd, self.size, records)
        return missing

    def seek_since(self, ns: int, parser: Parser) -> None:
        self._offset = since_offset(self._fd, self.size, ns, parser)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class GzipLogFile(RecordFile):
    """A rotated log file that was compressed, and is complete."""

    def __init__(self, path: str, fd: int) -> None:
        super().__init__(path)
        self._raw = os.fdopen(fd, "rb")
        self._unpacked = gzip.GzipFile(fileobj=self._raw)

    @classmethod
    def open(cls, path: str) -> Self:
        """Raises KubeletAnswer as ``open_regular`` does."""
        return cls(path, open_regular(path))

    def is_copy_of(self, file: LogFile) -> bool:
        """Whether this is what became of the file: same beginning, same length. Blocks shortly.

        The length is the one in gzip's trailer, which is modulo 2³².
        """
        fd = self._raw.fileno()
        try:
            trailer = os.pread(fd, 4, os.fstat(fd).st_size - 4)
            if int.from_bytes(trailer, "little") != file.size % 2**32:
                return False
            head = self._unpacked.read(len(file.head))
            self._unpacked.rewind()
        except DAMAGED:
            return False
        return head == file.head

    async def _read(self) -> bytes:
        return await asyncio.to_thread(self._unpacked.read1, BLOCK)

    def first_record(self) -> bytes:
        record = self._unpacked.readline(RECORD_MAX)
        self._unpacked.rewind()
        return record

    def seek_tail(self, records: int) -> int:
        return seek_gzip_tail(self._unpacked, records)

    def seek_since(self, ns: int, parser: Parser) -> None:
        """Begin at the front: unpacking is all that a search could spare."""

    def close(self) -> None:
        self._unpacked.close()
        self._raw.close()
