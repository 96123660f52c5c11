"""Small files that the kernel writes: what can't be read, or is something else, is not known."""

import os
from collections.abc import Mapping
from pathlib import Path

PathName = str | Path

_PIECE = 64 * 1024


def to_int(text: str) -> int | None:
    """The whole number, if that is what it is."""
    try:
        return int(text)
    except ValueError:
        return None


def read_text(path: PathName) -> str:
    """The file's text; empty if it can't be read."""
    # Thousands of these are read for one page: a file object would take three times as long.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pieces = []
            while piece := os.read(descriptor, _PIECE):
                pieces.append(piece)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return b"".join(pieces).decode(errors="replace")


def read_int(path: PathName) -> int | None:
    """The whole number that the file consists of."""
    return to_int(read_text(path))


def read_table(path: PathName) -> Mapping[str, int]:
    """The numbers in a file whose lines are a name and a number each; other lines don't count."""
    rows = (line.split() for line in read_text(path).splitlines())
    pairs = ((row[0], to_int(row[1])) for row in rows if len(row) == 2)
    return {name: number for name, number in pairs if number is not None}


def count_processes(cgroup: PathName) -> int | None:
    """How many processes there are in a cgroup and below it; None if it is gone."""
    lists = [f"{place}/cgroup.procs" for place, _, _ in os.walk(cgroup)]
    return sum(len(read_text(each).splitlines()) for each in lists) if lists else None
