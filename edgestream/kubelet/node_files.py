"""Files and directories below one directory, from which no path leads out."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from edgestream.answers import UNSNIFFED_TEXT, KubeletAnswer

_PAGE_BEGIN = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n'
_PAGE_END = "</pre>\n"
_UNESCAPED = "$&+,/:;=@-_.~"


class _Opened:
    """Something open for reading, to be closed by whoever asked for it.

    A thread may still read from it when the request it is for has been dropped: then it is closed
    as soon as that has ended.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._status = os.fstat(descriptor)
        self._lock = threading.Lock()
        self._holders = 1  # whoever asked for it
        self._is_given_up = False
        self.modified = datetime.fromtimestamp(int(self._status.st_mtime), UTC)
        """When it was changed last, in whole seconds."""

    def __del__(self) -> None:
        self.close()  # nobody may have been left to take it when it was opened

    def close(self) -> None:
        """Let go of it. Idempotent, and never blocks."""
        if not self._is_given_up:
            self._is_given_up = True
            self._release()

    def _release(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                os.close(self._descriptor)

    @contextmanager
    def _reading(self) -> Iterator[int]:
        """The descriptor, for as long as the context lasts; failures become KubeletAnswers."""
        with self._lock:
            if not self._holders:
                raise _failure(OSError())
            self._holders += 1
        try:
            yield self._descriptor
        except OSError as error:
            raise _failure(error) from error
        finally:
            self._release()


class NodeFile(_Opened):
    """A regular file. Its methods may block."""

    @property
    def size(self) -> int:
        """How long it was when it was opened."""
        return self._status.st_size

    def read(self, start: int, length: int) -> bytes:
        """These bytes, fewer at the end of the file only. Raises a KubeletAnswer on failure."""
        pieces = []
        with self._reading() as descriptor:
            while length and (piece := os.pread(descriptor, length, start)):
                pieces.append(piece)
                start, length = start + len(piece), length - len(piece)
        return b"".join(pieces)


class NodeDirectory(_Opened):
    """A directory. Its methods may block."""

    def page(self) -> bytes:
        """Links to all that is in it, by name. Raises a KubeletAnswer on failure."""
        with self._reading() as descriptor, os.scandir(descriptor) as entries:
            names = sorted(
                f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name
                for each in entries
            )
        links = "".join(f'<a href="{_address(name)}">{escape(name)}</a>\n' for name in names)
        return f"{_PAGE_BEGIN}{links}{_PAGE_END}".encode(errors="replace")


def open_below(directory: Path, path: str) -> NodeFile | NodeDirectory:
    """Open what is at that path below the directory. May block.

    Links are followed, also from one part of a path to the next, but not out of the directory: what
    is there counts as missing, and so does what is neither a file nor a directory. Raises a
    KubeletAnswer for what is missing or can't be read.
    """
    try:
        root = os.path.realpath(directory)
        # Opened without being touched, it can't be exchanged before it is known to be inside.
        place = os.open(os.path.join(root, path), os.O_PATH | os.O_CLOEXEC)
        try:
            reached = os.readlink(f"/proc/self/fd/{place}")
            mode = os.fstat(place).st_mode
            is_inside = reached == root or reached.startswith(root.rstrip("/") + "/")
            if not is_inside or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise FileNotFoundError
            descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(place)
    except (OSError, ValueError) as error:
        raise _failure(error) from error
    return NodeDirectory(descriptor) if stat.S_ISDIR(mode) else NodeFile(descriptor)


def _address(name: str) -> str:
    """A link to that name; one with a colon would be taken for another scheme."""
    address = quote(name, safe=_UNESCAPED, errors="replace")
    return escape(f"./{address}" if ":" in address else address)


def _failure(error: OSError | ValueError) -> KubeletAnswer:
    if isinstance(error, PermissionError):
        return KubeletAnswer(403, "403 Forbidden\n", headers=UNSNIFFED_TEXT)
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return KubeletAnswer(404, "404 page not found\n", headers=UNSNIFFED_TEXT)
    return KubeletAnswer(500, "500 Internal Server Error\n", headers=UNSNIFFED_TEXT)
