"""From raw records to what a client sees: filters, prefixes, limits.

The rules are the kubelet's. A record older than ``since`` or of another stream is dropped, yet it
counts for ``tail`` and decides whether the next record begins a line. There is one such flag for
both streams: a record gets its time as a prefix only if the one before it, whatever its stream,
ended a line. ``limit_bytes`` counts what comes out, prefixes included, and may cut anywhere.
Records that can't be parsed are skipped and count for nothing.
"""

import re
from typing import NamedTuple

from edgestream.answers import KubeletAnswer
from edgestream.logs.bulk import BulkFormatter
from edgestream.logs.failures import unexpected_stream
from edgestream.logs.options import LogOptions
from edgestream.logs.record import STREAMS, Parser, Record, choose_parser, is_partial, parse_cri

_LINES = re.compile(rb"[^\n]*\n")
_STREAM_OF = {"All": None, "Stdout": b"stdout", "Stderr": b"stderr"}


class _LongRecord(NamedTuple):
    """A record of which only a first part has been given."""

    wanted: bool
    ends_line: bool


class LogFormatter:
    """Formats one log, from the first record that is read of it to the last."""

    def __init__(self, options: LogOptions) -> None:
        self._since_ns = options.since_ns
        self._timestamps = options.timestamps
        self._stream = _STREAM_OF[options.stream]
        # A follower is bound by where it begins, not by a number of records.
        self._records_left = None if options.follow else options.tail_lines
        self._bytes_left = options.limit_bytes
        self._parser: Parser | None = None
        self._begins_line = True
        self._long: _LongRecord | None = None
        self._bulk = BulkFormatter(
            timestamps=options.timestamps, stream=self._stream, since_ns=options.since_ns
        )
        self.failure: KubeletAnswer | None = None
        """What ended the output before its end; the output up to there is good."""

    @property
    def done(self) -> bool:
        """Whether nothing more will come out, whatever is fed."""
        counted_out = self._records_left == 0 and self._long is None
        return counted_out or self._bytes_left == 0 or self.failure is not None

    @property
    def has_format(self) -> bool:
        """Whether the format is settled."""
        return self._parser is not None

    def choose_parser(self, first: bytes) -> Parser:
        """Settle the format by the log's first record, once.

        Raises KubeletAnswer where it is in none of the known formats.
        """
        if self._parser is None:
            self._parser = choose_parser(first)
        return self._parser

    def feed(self, data: bytes) -> bytes:
        """The output for more records.

        An end without a newline is the beginning of a record too long to be held; the rest of it
        comes with the next call. Raises KubeletAnswer if the very first record is in no known
        format; a later failure is kept in ``failure``.
        """
        parts: list[bytes] = []
        if self._long is not None:
            data = self._continue_long(self._long, data, parts)
        end = data.rfind(b"\n") + 1
        if end:
            self._whole(data[:end], parts)
        if end < len(data) and not self.done:
            self._begin_long(data[end:], parts)
        return self._limited(b"".join(parts))

    def feed_unterminated(self, record: bytes) -> bytes:
        """The output for a file's last record, which counts for no limit of records."""
        parts: list[bytes] = []
        if self._long is not None:
            self._continue_long(self._long, record, parts)
        elif record and not self.done:
            parsed = self.choose_parser(record)(record)
            if parsed is not None:
                self._emit(parsed, parts)
        return self._limited(b"".join(parts))

    def _whole(self, block: bytes, parts: list[bytes]) -> None:
        if self.done:
            return
        parser = self._parser or self.choose_parser(block[: block.index(b"\n") + 1])
        if parser is not parse_cri:
            self._one_by_one(block, parser, parts)
        elif not self._in_bulk(block, parts):
            begin = 0
            for odd, behind in self._bulk.odd_records(block):
                self._run(block[begin:odd], parts)
                self._one_by_one(block[odd:behind], parser, parts)
                begin = behind
            self._run(block[begin:], parts)

    def _run(self, block: bytes, parts: list[bytes]) -> None:
        """Format records that are good for bulk, if they begin a line and are all asked for."""
        if self._timestamps and not self._begins_line and block:
            end = block.index(b"\n") + 1
            self._one_by_one(block[:end], parse_cri, parts)
            block = block[end:]
        if block and not self._in_bulk(block, parts):
            self._one_by_one(block, parse_cri, parts)

    def _in_bulk(self, block: bytes, parts: list[bytes]) -> bool:
        if self._timestamps and not self._begins_line:
            return False
        records = 0
        if self._records_left is not None:
            records = block.count(b"\n")
            if records > self._records_left:
                return False
        output = self._bulk.format(block)
        if output is None:
            return False
        self._count(records)
        parts.append(output)
        self._begins_line = True
        return True

    def _one_by_one(self, block: bytes, parser: Parser, parts: list[bytes]) -> None:
        for line in _LINES.findall(block):
            if self._records_left == 0 or self.failure is not None:
                return
            record = parser(line)
            if record is not None:
                self._emit(record, parts)
                self._count(1)

    def _emit(self, record: Record, parts: list[bytes]) -> bool:
        """Add the record to the output; whether it was wanted there."""
        ns, time, stream, content = record
        wanted = self._since_ns is None or ns >= self._since_ns
        if wanted and stream not in STREAMS:
            self.failure = unexpected_stream(stream)
            return False
        wanted = wanted and self._stream in (None, stream)
        if wanted:
            if self._timestamps and self._begins_line:
                parts += (time, b" ")
            parts.append(content)
        # An empty record counts as the end of a line.
        self._begins_line = not content or content.endswith(b"\n")
        return wanted

    def _count(self, records: int) -> None:
        if self._records_left is not None:
            self._records_left -= records

    def _begin_long(self, beginning: bytes, parts: list[bytes]) -> None:
        parser = self.choose_parser(beginning)
        record = parser(beginning) if parser is parse_cri else None
        if record is None:
            self._long = _LongRecord(wanted=False, ends_line=False)
        else:
            tags = beginning.split(b" ", 3)[2]
            self._long = _LongRecord(self._emit(record, parts), ends_line=not is_partial(tags))
            self._count(1)

    def _continue_long(self, record: _LongRecord, data: bytes, parts: list[bytes]) -> bytes:
        """Use up what belongs to the long record, and return what is behind it."""
        content, newline, behind = data.partition(b"\n")
        if record.wanted:
            parts.append(content)
        if newline:
            self._long = None
            if record.ends_line:
                self._begins_line = True
                if record.wanted:
                    parts.append(newline)
        return behind

    def _limited(self, output: bytes) -> bytes:
        if self._bytes_left is None:
            return output
        if len(output) >= self._bytes_left:
            output = output[: self._bytes_left]
            self.failure = None
        self._bytes_left -= len(output)
        return output
