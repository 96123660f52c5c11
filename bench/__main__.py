"""``python -m bench [--runs N]``: measure, print the table, write ``.bench/results.json``."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.cases import all_cases
from bench.client import client_context, download
from bench.figure import Figure
from bench.report import summarize, table, write
from bench.services import Bench, running

READY_DEADLINE = 20.0


def wait_until_connected(bench: Bench) -> None:
    """Until a request crosses each tunnel."""
    for port in (bench.stream_port, *([bench.peer.stream_port] if bench.peer else [])):
        _wait_until_answered(port, bench)


def _wait_until_answered(port: int, bench: Bench) -> None:
    deadline = time.monotonic() + READY_DEADLINE
    while True:
        try:
            download(port, client_context(bench.pki), 1)
            return
        except (OSError, ConnectionError):
            if time.monotonic() > deadline:
                raise


def main() -> None:
    """Measure as often as asked."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs: list[list[Figure]] = []
    for number in range(options.runs):
        with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as bench:
            wait_until_connected(bench)
            figures = []
            for figure in all_cases(bench):
                figures.append(figure)
                sys.stderr.write(f"run {number + 1}: {figure.name}: {figure.value:.4g}\n")
            runs.append(figures)
    summary = summarize(runs)
    write(Path(".bench/results.json"), summary)
    print(table(summary))


if __name__ == "__main__":
    main()
