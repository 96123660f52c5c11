"""One record of a log file: ``<time> <stdout|stderr> <tags> <content>``, or Docker's JSON.

In the CRI format only the first of the colon-separated tags matters: ``P`` means that the line goes
on in the next record, so that the record's newline is not part of the content. Content is bytes as
they are, never decoded. A Docker record is an object ``{"log", "stream", "time"}`` whose ``log``
carries its own newline, or none.
"""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from edgestream.logs.failures import unsupported_format
from edgestream.logs.timestamp import ZERO_TIME_NS, Stamp, parse_stamp

STREAMS = (b"stdout", b"stderr")

_ZERO_STAMP = Stamp(ZERO_TIME_NS, b"0001-01-01T00:00:00.000000000Z")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """A record that could be parsed.

    Its time is there as nanoseconds since the epoch and as the text that is printed for it;
    ``content`` includes the newline that ends a full line.
    """

    ns: int
    time: bytes
    stream: bytes
    content: bytes


Parser = Callable[[bytes], Record | None]
"""Takes a record with its newline, if it has one; None where the record is not in the format."""


def parse_cri(line: bytes) -> Record | None:
    """A record in the CRI format."""
    parts = line.split(b" ", 3)
    if len(parts) != 4:
        return None
    time, stream, tags, content = parts
    stamp = parse_stamp(time)
    if stamp is None or stream not in STREAMS:
        return None
    if is_partial(tags):
        content = content.removesuffix(b"\n")
    return Record(*stamp, stream, content)


def is_partial(tags: bytes) -> bool:
    """Whether a record with these tags is a part of a line that goes on in the next."""
    return tags.startswith(b"P") and tags.partition(b":")[0] == b"P"


def parse_docker(line: bytes) -> Record | None:
    """A record in Docker's json-file format.

    A field that is missing or null has its zero value; names are compared without case and bytes
    that are not UTF-8 become U+FFFD, both as Go has it. The stream is not checked.
    """
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        return None
    fields = {key.lower(): field for key, field in value.items() if field is not None}
    log, stream, time = fields.get("log", ""), fields.get("stream", ""), fields.get("time")
    if not isinstance(log, str) or not isinstance(stream, str):
        return None
    stamp: Stamp | None = _ZERO_STAMP
    if time is not None:
        stamp = parse_stamp(_encoded(time), strict=True) if isinstance(time, str) else None
    if stamp is None:
        return None
    return Record(*stamp, _encoded(stream), _encoded(log))


def _encoded(text: str) -> bytes:
    return _LONE_SURROGATE.sub("\ufffd", text).encode()


def choose_parser(first: bytes) -> Parser:
    """The parser for a log whose first record is ``first``; it holds for the rest of the log.

    Raises the kubelet's error (400, ``unsupported log format``) where neither format fits.
    """
    for parser in (parse_cri, parse_docker):
        if parser(first) is not None:
            return parser
    raise unsupported_format(first)
