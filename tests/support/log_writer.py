"""A container's runtime and a kubelet that rotates its log, as one process.

``python -m tests.support.log_writer LOG LINES_PER_SECOND ROTATIONS SECONDS`` writes numbered
records to ``LOG`` and rotates it every ``SECONDS``: a rename, the first records still into the old
file, then the new one; all but the newest rotated file is compressed, and only five are kept. When
done it prints the number of the last record, and waits for its stdin to end.
"""

import gzip
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

KEPT = 5
STEP = 0.01


def record(number: int) -> bytes:
    """The record of one line, as a runtime writes it now."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z stdout F {number}\n".encode()


class Writer:
    """Writes at a steady rate, in steps of a hundredth of a second."""

    def __init__(self, log: Path, rate: int) -> None:
        self._log = log
        self._per_step = round(rate * STEP)
        self._file = log.open("ab", buffering=0)
        self._due = time.monotonic()
        self.last = 0

    def write_for(self, seconds: float) -> None:
        """Write that long, without falling behind for good."""
        for _ in range(round(seconds / STEP)):
            self._burst()
            self._due += STEP
            time.sleep(max(0.0, self._due - time.monotonic()))

    def rotate(self, number: int) -> None:
        """Rename the log, go on in it for a moment, then open the new one."""
        rotated = self._log.with_name(f"{self._log.name}.20240501-{number:06d}")
        os.rename(self._log, rotated)
        self._burst()
        new = self._log.open("ab", buffering=0)
        self._burst()  # what was on its way when the runtime opened the new file
        self._file.close()
        self._file = new

    def _burst(self) -> None:
        first, self.last = self.last + 1, self.last + self._per_step
        self._file.write(b"".join(map(record, range(first, self.last + 1))))


def tidy(log: Path) -> None:
    """Compress all rotated files but the newest, as a kubelet does, and keep but a few."""
    rotated = sorted(log.parent.glob(f"{log.name}.*"))
    for path in rotated[:-KEPT]:
        path.unlink()
    for path in rotated[-KEPT:-1]:
        if path.suffix != ".gz":
            temporary = log.with_name("being-compressed")
            temporary.write_bytes(gzip.compress(path.read_bytes(), 1))
            temporary.rename(path.with_name(f"{path.name}.gz"))
            path.unlink()


def main() -> None:
    """Write, rotate, report."""
    log, rate, rotations, seconds = Path(sys.argv[1]), *map(float, sys.argv[2:])
    writer = Writer(log, int(rate))
    for number in range(int(rotations)):
        writer.write_for(seconds)
        tidy(log)
        writer.rotate(number)
    writer.write_for(seconds)
    sys.stdout.write(f"{writer.last}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
