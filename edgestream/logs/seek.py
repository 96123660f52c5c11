"""Where in a log file to begin: searches that read a small part of the file.

All of this blocks and belongs in a thread.
"""

import gzip
import os

from edgestream.logs.record import Parser

BLOCK = 64 * 1024


def tail_offset(fd: int, size: int, records: int) -> tuple[int, int]:
    """Where the last ``records`` records begin, and how many of them the file does not have.

    As the kubelet does it: behind the newline that ends the record before them. An unterminated
    last record is not counted, and comes on top.
    """
    found = 0
    end = size
    while end > 0:
        begin = max(0, end - BLOCK)
        block = os.pread(fd, end - begin, begin)
        newlines = block.count(b"\n")
        if found + newlines > records:
            # The newline wanted is number (records + 1) from the end of the file.
            position = len(block)
            for _ in range(records + 1 - found):
                position = block.rindex(b"\n", 0, position)
            return begin + position + 1, 0
        found += newlines
        end = begin
    return 0, records - found


def seek_gzip_tail(file: gzip.GzipFile, records: int) -> int:
    """Go to where the last ``records`` records begin; how many of them the file does not have."""
    found = 0
    while block := file.read(BLOCK):
        found += block.count(b"\n")
    file.rewind()
    skip = found - records
    while skip > 0:
        block = file.read(BLOCK)
        newlines = block.count(b"\n")
        if newlines >= skip:
            position = 0
            for _ in range(skip):
                position = block.index(b"\n", position) + 1
            file.seek(position - len(block), os.SEEK_CUR)
        skip -= newlines
    return max(0, records - found)


def since_offset(fd: int, size: int, ns: int, parser: Parser) -> int:
    """The beginning of a record before which all records are older than ``ns``.

    A binary search, so the records have to be in order of time, more or less: the caller allows
    for what is not by an earlier ``ns``. The record found is itself older, unless it is the first.
    """
    low, high = 0, size
    while high - low > BLOCK:
        middle = (low + high) // 2
        probe = _first_record_behind(fd, middle, high, parser)
        if probe is None or probe[1] >= ns:
            high = middle
        else:
            low = probe[0]
    return low


def _first_record_behind(
    fd: int, offset: int, limit: int, parser: Parser
) -> tuple[int, int] | None:
    """Offset and time of the first good record that begins in ``(offset, limit)``."""
    begin = offset
    text = b""
    aligned = False
    while begin < limit:
        block = os.pread(fd, BLOCK, begin + len(text))
        if not block:
            return None
        text += block
        while newline := text.find(b"\n") + 1:
            record = parser(text[:newline]) if aligned else None
            if record is not None:
                return begin, record.ns
            aligned = True
            begin += newline
            if begin >= limit:
                return None
            text = text[newline:]
    return None
