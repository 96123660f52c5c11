"""The older files of a log: ``<n>.log.<YYYYMMDD-HHMMSS>``, gzipped from the next rotation on.

The kubelet renames the file, has the runtime open a new one, and compresses what was rotated
before. So a file may be renamed or compressed at any moment between two looks at the directory.
"""

import os
import re
from typing import NamedTuple

from edgestream.answers import KubeletAnswer
from edgestream.logs.files import GzipLogFile, LogFile

_SUFFIX = re.compile(r"\.(\d{8}-\d{6})(\.gz)?")


class RotatedFile(NamedTuple):
    """A rotated file as the directory lists it; sorts by age, the oldest first."""

    stamp: str
    path: str

    def open(self) -> LogFile | GzipLogFile | None:
        """The file, or its compressed form if it was compressed meanwhile; None if it is gone."""
        plain = self.path.removesuffix(".gz")
        try:
            return LogFile.open(plain)
        except KubeletAnswer:
            try:
                return GzipLogFile.open(plain + ".gz")
            except KubeletAnswer:
                return None


def rotated_files(path: str) -> list[RotatedFile]:
    """The rotated files of the log at ``path``, the oldest first, each listed once."""
    directory, name = os.path.split(path)
    found: dict[str, RotatedFile] = {}
    try:
        entries = sorted(os.listdir(directory))
    except OSError:
        return []
    for entry in entries:
        suffix = _SUFFIX.fullmatch(entry, len(name)) if entry.startswith(name) else None
        if suffix is not None:  # the plain file sorts before the compressed one
            found.setdefault(suffix[1], RotatedFile(suffix[1], os.path.join(directory, entry)))
    return sorted(found.values())


class Rotations:
    """Keeps track of one log's rotated files, so that a follower misses none of them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: set[str] = set()

    def open_current(self) -> tuple[LogFile, list[RotatedFile]]:
        """The current file and the files that are older than it, at one moment.

        Raises KubeletAnswer when the current file can't be opened.
        """
        # First the file and then the list: a rotation in between shows as the file's own entry.
        current = LogFile.open(self._path)
        older = _before(current, rotated_files(self._path))
        self._known = {file.stamp for file in older}
        return current, older

    def rotated_away(self, current: LogFile) -> bool:
        """Whether another file has the log's name now. No file at all is no rotation yet."""
        try:
            status = os.stat(self._path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) != current.identity

    def successors(self, current: LogFile) -> list[LogFile | GzipLogFile]:
        """What follows on ``current``, oldest first; the last one is the new current file.

        Empty if there is no new file, or it is gone again. A file that was rotated and removed
        since the last look is lost.
        """
        try:
            newest = LogFile.open(self._path)
        except KubeletAnswer:
            return []
        listed = rotated_files(self._path)
        between = _before(newest, [file for file in listed if file.stamp not in self._known])
        self._known = {file.stamp for file in listed} & (
            self._known | {file.stamp for file in between}
        )
        opened = [file for file in (entry.open() for entry in between) if file is not None]
        for position, file in enumerate(opened):
            if _is_same(file, current):
                for older in opened[: position + 1]:
                    older.close()
                del opened[: position + 1]
                break
        return [*opened, newest]


def _before(current: LogFile, files: list[RotatedFile]) -> list[RotatedFile]:
    """Those of the files that are older than ``current``, which may be one of them by now."""
    for position, file in enumerate(files):
        try:
            status = os.stat(file.path)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == current.identity:
            return files[:position]
    return files


def _is_same(file: LogFile | GzipLogFile, current: LogFile) -> bool:
    if isinstance(file, LogFile):
        return file.identity == current.identity
    return file.is_copy_of(current)
