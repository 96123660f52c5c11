"""Whole blocks of well-formed records at once.

Nearly all records of a log are full lines (tag ``F``) with a time of one to nine fraction digits,
and all in one zone. A block of nothing but such records is turned by one pass of a compiled
expression; whatever else is in it, however rare, is left to the reader that goes record by record.
What the expressions match is therefore exact, down to the number of days in a month.

Matching the time costs most of it. Neighbours share their hour, so an hour that lasts for several
blocks gets an expression in which it is literal text.
"""

import re
from itertools import compress

from edgestream.logs.timestamp import clock_text

_LEAP_YEAR = rb"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    rb"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])"
    rb"|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    rb"|" + _LEAP_YEAR + rb"-02-29)"
)
_HOUR = _DATE + rb"T(?:[01]\d|2[0-3])"
_REST = rb":[0-5]\d:[0-5]\d\.\d{1,9}"
_ZONE = rb"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_STREAM = rb"std(?:out|err)"

_FIRST = re.compile(rb"(%b)(%b)(%b) (%b) F " % (_HOUR, _REST, _ZONE, _STREAM))
_TIME_WIDTH = len("\n2006-01-02T15:04:05.000000000")

_LASTING = 8
"""Blocks that begin in one hour before it is worth an expression of its own."""


class BulkFormatter:
    """Formats blocks of well-formed full records; refuses all others."""

    def __init__(self, *, timestamps: bool, stream: bytes | None, since_ns: int | None) -> None:
        self._timestamps = timestamps
        self._stream = stream
        self._since_ns = since_ns
        # Columns that a block is split into: content; time, content; time, stream, content.
        self._width = 3 if stream is not None else 2 if timestamps or since_ns is not None else 1
        self._zone = b""
        self._limit = b""
        self._hour = b""
        self._hour_blocks = 0
        self._any_header = self._hour_header = _FIRST
        self._odd = re.compile(rb"\n.*")

    def format(self, block: bytes) -> bytes | None:
        """What a client sees of the block, or None where it has to be taken apart.

        ``block`` is whole lines, each with its newline. The first of them must begin a line of
        output; then the record after the block does too.
        """
        first = _FIRST.match(block)
        if first is None:
            return None
        parts = self._header_for(first, block).split(block[first.end() : -1])
        # A newline that was not matched is one in front of something else than a good record.
        # (Looking for one in all parts together is faster than counting them.)
        if b"\n" in b"".join(parts[:: self._width]):
            return None
        if self._width > 1:
            return self._kept([b"\n" + first[1] + first[2], first[4]][: self._width - 1] + parts)
        parts.append(b"")
        return b"\n".join(parts)

    def odd_records(self, block: bytes) -> list[tuple[int, int]]:
        """Where the records lie that are not good for ``format`` along with the others."""
        spans = [] if _FIRST.match(block) else [(0, block.index(b"\n") + 1)]
        # The newline matched is the one in front of the record; the block's last one has none.
        for match in self._odd.finditer(block, 0, len(block) - 1):
            begin, end = match.start() + 1, match.end() + 1
            if spans and spans[-1][1] == begin:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((begin, end))
        return spans

    def _header_for(self, first: re.Match[bytes], block: bytes) -> re.Pattern[bytes]:
        """The cheapest expression for all headers of the block but the first."""
        hour, zone = first[1], first[3]
        if zone != self._zone:
            self._zone, self._hour = zone, b""
            self._any_header = self._compile(_HOUR)
            self._odd = re.compile(rb"\n(?!%b%b%b %b F ).*" % self._header_parts(_HOUR))
            if self._since_ns is not None:
                self._limit = b"\n" + clock_text(self._since_ns, zone)
        if hour != self._hour:
            self._hour, self._hour_blocks = hour, 0
        self._hour_blocks += 1
        if self._hour_blocks < _LASTING:
            return self._any_header
        if self._hour_blocks == _LASTING:
            self._hour_header = self._compile(hour)
        last = block.rfind(b"\n", 0, -1) + 1
        return self._hour_header if block.startswith(hour, last) else self._any_header

    def _compile(self, hour: bytes) -> re.Pattern[bytes]:
        """A newline and the header of the record behind it."""
        expression = (rb"\n%b%b%b %b F ", rb"(\n%b%b)%b %b F ", rb"(\n%b%b)%b (%b) F ")
        return re.compile(expression[self._width - 1] % self._header_parts(hour))

    def _header_parts(self, hour: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        return hour, _REST, re.escape(self._zone), _STREAM

    def _kept(self, parts: list[bytes]) -> bytes:
        """The output for columns of times, streams where these matter, and contents."""
        width = self._width
        times = [time.ljust(_TIME_WIDTH, b"0") for time in parts[0::width]]
        contents = parts[width - 1 :: width]
        selectors = [True] * len(times)
        if self._stream is not None:
            selectors = [stream == self._stream for stream in parts[1::width]]
        if self._limit and min(times) < self._limit:
            selectors = [
                wanted and time >= self._limit
                for wanted, time in zip(selectors, times, strict=True)
            ]
        if not all(selectors):
            times = list(compress(times, selectors))
            contents = list(compress(contents, selectors))
        return self._joined(times, contents)

    def _joined(self, times: list[bytes], contents: list[bytes]) -> bytes:
        if not contents:
            return b""
        if not self._timestamps:
            return b"\n".join([*contents, b""])
        zone = b"Z " if self._zone[1:] == b"00:00" else self._zone + b" "
        parts = [zone] * (3 * len(times))
        parts[0::3] = times
        parts[2::3] = contents
        parts[0] = parts[0][1:]
        parts.append(b"\n")
        return b"".join(parts)
