"""What a client asks of a log, out of the query of ``/containerLogs``.

Decoding is the kubelet's, which is lenient with booleans and strict with numbers. The first of
several values wins, unknown names are ignored, and so are pairs that are badly escaped or hold a
semicolon. ``stream=Stdout`` and ``stream=Stderr`` are honoured, where a kubelet with default
feature gates refuses them.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_plus

from edgestream.answers import KubeletAnswer
from edgestream.logs.timestamp import SECOND, ZERO_TIME_NS, parse_stamp

STREAM_NAMES = ("All", "Stdout", "Stderr")

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which part of a log, and in what form."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_ns: int | None = None
    """Nanoseconds since the epoch: records before it are dropped, those at it are kept."""
    tail_lines: int | None = None
    """Begin this many records (not lines of output) before the end."""
    limit_bytes: int | None = None
    """Stop after this many bytes of output."""
    stream: str = "All"
    """``All``, ``Stdout`` or ``Stderr``."""


def parse_log_query(query: str, *, now_ns: int) -> LogOptions:
    """The options in a raw query string; ``now_ns`` is what ``sinceSeconds`` counts back from.

    Raises KubeletAnswer: 400 for a value that can't be decoded, 422 for values that make no sense
    or don't go together.
    """
    values = _first_values(query)
    if tail := values.get("tail"):  # the name that old clients use
        values["tailLines"] = tail
        if tail == "all":
            del values["tailLines"]
    tail_lines = _integer(values.get("tailLines"))
    limit_bytes = _integer(values.get("limitBytes"))
    since_seconds = _integer(values.get("sinceSeconds"))
    since_ns = _time_ns(values.get("sinceTime"))
    stream = values.get("stream", "All")
    if (
        (tail_lines is not None and tail_lines < 0)
        or (limit_bytes is not None and limit_bytes < 1)
        or (since_seconds is not None and since_seconds < 1)
        or (since_seconds is not None and since_ns is not None)
        or stream not in STREAM_NAMES
        or (stream != "All" and tail_lines is not None)
    ):
        raise KubeletAnswer(422, '{"message": "Invalid request."}')
    if since_seconds is not None:
        since_ns = now_ns - since_seconds * SECOND
    return LogOptions(
        follow=_boolean(values.get("follow")),
        previous=_boolean(values.get("previous")),
        timestamps=_boolean(values.get("timestamps")),
        since_ns=since_ns if since_ns != ZERO_TIME_NS else None,
        tail_lines=tail_lines,
        limit_bytes=limit_bytes,
        stream=stream,
    )


def _first_values(query: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in query.split("&"):
        if pair and ";" not in pair and not _BAD_ESCAPE.search(pair):
            name, _, value = pair.partition("=")
            values.setdefault(unquote_plus(name), unquote_plus(value))
    return values


def _boolean(value: str | None) -> bool:
    return value is not None and value != "0" and value.lower() != "false"


def _integer(value: str | None) -> int | None:
    if value is None:
        return None
    # A longer text can't be an int64, unless it is padded with zeros; Python refuses huge ones.
    if not _INTEGER.fullmatch(value) or len(value.lstrip("+-").lstrip("0")) > 19:
        raise _undecodable()
    number = int(value.lstrip("+-").lstrip("0") or "0") * (-1 if value[0] == "-" else 1)
    if not _INT64_MIN <= number <= _INT64_MAX:
        raise _undecodable()
    return number


def _time_ns(value: str | None) -> int | None:
    if value is None:
        return None
    if value in ("", "null"):
        return ZERO_TIME_NS
    stamp = parse_stamp(value.encode(errors="replace"))
    if stamp is None:
        raise _undecodable()
    return stamp.ns


def _undecodable() -> KubeletAnswer:
    return KubeletAnswer(400, '{"message": "Unable to decode query."}')
