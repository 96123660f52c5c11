"""An independent log reader: slow, simple, one record at a time, the whole log in memory."""

import re
from datetime import datetime
from typing import NamedTuple

from edgestream.logs.options import LogOptions


class Refused(Exception):
    """The log is in no known format."""


class Parsed(NamedTuple):
    ns: int
    shown_time: bytes
    stream: str
    content: bytes


def parse(line: bytes) -> Parsed | None:
    found = re.fullmatch(
        rb"(\S{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d) (stdout|stderr) ([^ ]*) (.*)", line, re.DOTALL
    )
    if found is None:
        return None
    clock, fraction, zone, stream, tags, content = found.groups()
    try:
        moment = datetime.fromisoformat((clock + zone).decode())
    except ValueError:
        return None
    digits = (fraction or b"") + b"0" * (9 - len(fraction or b""))
    zone = b"Z" if zone[1:] == b"00:00" else zone
    if tags.split(b":")[0] == b"P" and content.endswith(b"\n"):
        content = content[:-1]
    ns = round(moment.timestamp()) * 10**9 + int(digits)
    return Parsed(ns, clock + b"." + digits + zone, stream.decode(), content)


def kubectl_logs(files: list[bytes], options: LogOptions) -> bytes:
    """The output for a log in these files, the oldest first; its container has ended."""
    current = files[-1]
    text = current
    if options.tail_lines is not None or options.since_ns is not None:
        text = b"".join(files)
    if options.tail_lines is not None:
        ends = [position for position, byte in enumerate(text) if byte == 10]
        if len(ends) > options.tail_lines:
            text = text[ends[-options.tail_lines - 1] + 1 :]
    lines = re.findall(rb"[^\n]*\n|[^\n]+\Z", text)
    if options.follow and lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return b"".join(_shown(lines, current, options))


def _shown(lines: list[bytes], current: bytes, options: LogOptions) -> list[bytes]:
    left = None if options.follow else options.tail_lines
    room = options.limit_bytes
    output: list[bytes] = []
    if left == 0 or not lines:
        return output
    if parse(lines[0]) is None:
        raise Refused
    begins_line = True
    for record in map(parse, lines):
        if record is None:
            continue
        if left == 0 or room == 0:
            break
        shown = record.content
        if options.timestamps and begins_line:
            shown = record.shown_time + b" " + shown
        if options.since_ns is not None and record.ns < options.since_ns:
            shown = b""
        if options.stream != "All" and record.stream != options.stream.lower():
            shown = b""
        if room is not None:
            shown = shown[:room]
            room -= len(shown)
        output.append(shown)
        left = None if left is None else left - 1
        begins_line = record.content == b"" or record.content.endswith(b"\n")
    return output
