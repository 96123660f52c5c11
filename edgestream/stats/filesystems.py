"""What filesystems hold, and what single directories take up in them."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 512
"""The unit of ``st_blocks``, whatever the filesystem's own blocks are."""


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """A filesystem at one moment; ``available`` is what ordinary users may still write."""

    at: int
    available: int
    capacity: int
    used: int
    inodes_free: int
    inodes: int


@dataclass(frozen=True, slots=True)
class DirectoryUsage:
    """What files take up on disk."""

    used: int
    inodes: int


def filesystem_of(path: Path) -> FilesystemUsage | None:
    """The filesystem that holds this path, or will hold it; None if it can't be told."""
    while True:
        try:
            found = os.statvfs(path)
        except FileNotFoundError:
            if path == path.parent:
                return None
            path = path.parent
        except OSError:
            return None
        else:
            return FilesystemUsage(
                at=time.time_ns(),
                available=found.f_bavail * found.f_frsize,
                capacity=found.f_blocks * found.f_frsize,
                used=(found.f_blocks - found.f_bfree) * found.f_frsize,
                inodes_free=found.f_ffree,
                inodes=found.f_files,
            )


def files_in(directory: Path) -> DirectoryUsage | None:
    """What the directory's own files take up; None if it can't be read.

    Directories below are not looked into, nor are the targets of links.
    """
    used = inodes = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # one that was removed in the meantime
                    if not entry.is_dir(follow_symlinks=False):
                        used += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                        inodes += 1
    except OSError:
        return None
    return DirectoryUsage(used, inodes)
