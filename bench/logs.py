"""The log reader: how fast it reads a large log, and how little of it where little is asked for."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.figure import Figure
from edgestream.logs.options import LogOptions
from edgestream.logs.reader import LogReader
from edgestream.logs.watch import LogWatcher

SIZE = 1_000_000_000
TEXT = 100
"""Bytes of a line as it is shown, its newline included."""
PER_SECOND = 5000
"""Lines a second, by their times."""
STEP_NS = 10**9 // PER_SECOND


class _Running:
    async def is_running(self) -> bool:
        return True


@dataclass(frozen=True)
class Reading:
    """One reading: seconds to the first byte, to the end and of a core's time, bytes shown, bytes
    read from files."""

    first: float
    seconds: float
    cpu: float
    shown: int
    read: int


def write_log(path: Path, size: int) -> datetime:
    """Write a log of about that many bytes; the time of its end, in whole seconds."""
    end = datetime.now(UTC).replace(microsecond=0)
    record = len("2006-01-02T15:04:05.000000000Z stdout F ") + TEXT
    seconds = size // (PER_SECOND * record)
    with path.open("wb") as file:
        for number in range(seconds):
            clock = f"{end - timedelta(seconds=seconds - number):%Y-%m-%dT%H:%M:%S}".encode()
            first = number * PER_SECOND
            file.write(
                b"".join(
                    b"%b.%09dZ stdout F %0*d\n" % (clock, line * STEP_NS, TEXT - 1, first + line)
                    for line in range(PER_SECOND)
                )
            )
    return end


def log_cases(size: int = SIZE) -> Iterator[Figure]:
    """One run over one log, which is in the page cache as a log that is being written is."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "0.log"
        end = write_log(log, size)
        _read(log, LogOptions())  # what is compiled once is compiled now
        tail = _read(log, LogOptions(tail_lines=100))
        yield Figure("log of 1 GB, --tail=100, first byte", tail.first * 1e3, "ms")
        yield Figure("log of 1 GB, --tail=100, read", tail.read / 1e6, "MB")
        since = _read(log, LogOptions(since_ns=int(end.timestamp() - 5) * 10**9))
        yield Figure("log of 1 GB, --since=5s, whole", since.seconds * 1e3, "ms")
        yield Figure("log of 1 GB, --since=5s, read", since.read / 1e6, "MB")
        for name, options in (
            ("", LogOptions()),
            (", --timestamps", LogOptions(timestamps=True)),
        ):
            whole = _read(log, options)
            # Text of the log, as it is shown without its times.
            text = whole.shown if not options.timestamps else whole.shown * TEXT / _stamped()
            yield Figure(f"log of 1 GB{name}", text / 1e6 / whole.cpu, "MB/s of a core")


def _read(log: Path, options: LogOptions) -> Reading:
    async def run() -> Reading:
        watcher = LogWatcher()
        before = _read_bytes()
        began, cpu = time.perf_counter(), time.process_time()
        reader = await LogReader.open(str(log), options, state=_Running(), watcher=watcher)
        first, shown = 0.0, 0
        async with aclosing(reader.chunks()) as chunks:
            async for chunk in chunks:
                first = first or time.perf_counter() - began
                shown += len(chunk)
        seconds = time.perf_counter() - began
        cpu = time.process_time() - cpu
        await watcher.close()
        return Reading(first, seconds, cpu, shown, _read_bytes() - before)

    return asyncio.run(run())


def _read_bytes() -> int:
    """Bytes that this process has read so far, from wherever."""
    return int(Path("/proc/self/io").read_text().split()[1])


def _stamped() -> int:
    """Bytes of a line that is shown with its time."""
    return len("2006-01-02T15:04:05.000000000Z ") + TEXT


if __name__ == "__main__":
    for figure in log_cases():
        print(f"{figure.name:<44} {figure.value:>10.1f}  {figure.unit}")
