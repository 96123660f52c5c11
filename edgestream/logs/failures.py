"""The kubelet's sentences about logs that can't be read, to the byte.

The kubelet appends them to an answer of 200 that it has begun already. Here they are real errors:
status 400, whose body the API server shows to the user, and no Content-Type, as with the other log
errors that a kubelet finds once its answer is chunked.
"""

import os

from edgestream.answers import KubeletAnswer

QUOTED_MAX = 16 * 1024
"""Bytes of a record that an error quotes; the API server reads 50 000 bytes of an error at most."""

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def go_quote(data: bytes) -> str:
    """``data`` as Go's ``%q`` prints it: UTF-8 text, other bytes as ``\\xNN``."""
    return f'"{"".join(map(_escaped, data.decode("utf-8", "surrogateescape")))}"'


def _escaped(char: str) -> str:
    code = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def log_failure(text: str) -> KubeletAnswer:
    """The error answer that carries ``text``."""
    return KubeletAnswer(400, text, headers=())


def unsupported_format(record: bytes) -> KubeletAnswer:
    """The first record is in no known format."""
    quoted = go_quote(record[:QUOTED_MAX])
    return log_failure(f"failed to get parse function: unsupported log format: {quoted}")


def unexpected_stream(stream: bytes) -> KubeletAnswer:
    """A record of a stream that is neither stdout nor stderr."""
    return log_failure(f"unexpected stream type {go_quote(stream[:QUOTED_MAX])}")


def cannot_resolve(path: str, error: OSError) -> KubeletAnswer:
    """A part of the path, named by the error, is missing or can't be looked at."""
    where = os.fsdecode(error.filename) if error.filename is not None else path
    return log_failure(
        f"failed to try resolving symlinks in path {_quoted_path(path)}: "
        f"lstat {where}: {_why(error)}"
    )


def cannot_open(path: str, error: OSError) -> KubeletAnswer:
    """The file is there and can't be opened."""
    return log_failure(f"failed to open log file {_quoted_path(path)}: open {path}: {_why(error)}")


def cannot_read(path: str, error: Exception) -> KubeletAnswer:
    """The file is open and can't be read."""
    return log_failure(f"failed to read log file {_quoted_path(path)}: read {path}: {_why(error)}")


def _quoted_path(path: str) -> str:
    return go_quote(os.fsencode(path))


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error)
