"""What is measured, and how each figure is made."""

import multiprocessing
import ssl
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.client import (
    client_context,
    download,
    download_for,
    echo,
    echo_sessions,
    short_logs,
    upload,
)
from bench.figure import Figure
from bench.idle import hold_tunnels
from bench.logs import log_cases
from bench.services import Bench, Process
from streamkit.pki.issue import issue_all

GB = 1e9
BULK = 512 * 1024 * 1024
ECHO_ROUNDS = 2000
SESSIONS = 200
SESSION_ROUNDS = 30_000
SHORT_REQUESTS = 1000
TUNNELS = 500


@dataclass(frozen=True)
class _Side:
    """One of the two ways to the same answers, and who works for it."""

    name: str
    port: int
    processes: dict[str, Process]


def all_cases(bench: Bench) -> Iterator[Figure]:
    """One run of everything, the relay beside ours."""
    context = client_context(bench.pki)
    yield from _both_sides(bench, context)
    yield from _beside_bulk(bench)
    rate = short_logs(bench.stream_port, context, SHORT_REQUESTS)
    yield Figure("logs of one line, one connection", rate, "requests/s")
    yield from _idle(bench)
    yield from log_cases()


def _both_sides(bench: Bench, context: ssl.SSLContext) -> Iterator[Figure]:
    """What both paths are asked for, in turns: the machine's moods then meet both."""
    sides: tuple[_Side, ...] = (
        _Side("relay", bench.relay_port, {"relay": bench.relay}),
        _Side("ours", bench.stream_port, {"cloud": bench.cloud, "edge": bench.edge}),
    )
    if bench.peer:
        processes = {"cloud": bench.peer.cloud, "edge": bench.peer.edge}
        sides = (*sides, _Side("peer", bench.peer.stream_port, processes))
    for what, move in (
        ("log download", partial(download, context=context, size=BULK)),
        ("exec upload", partial(upload, context=context, size=BULK)),
        (
            "log download of 8 streams",
            partial(_together, 8, partial(download, context=context, size=BULK // 8)),
        ),
    ):
        for side in sides:
            yield from _if_it_can(side, _bulk(f"{what}, {side.name}", side, move))
    for side in sides:
        yield from _if_it_can(side, _echo(side, context))
    for side in sides:
        yield from _if_it_can(side, _echo_sessions(side, context))


def _if_it_can(side: _Side, figures: Iterator[Figure]) -> Iterator[Figure]:
    """A peer need not be able to do all that is measured; the others must."""
    try:
        yield from figures
    except OSError as error:
        if side.name != "peer":
            raise
        sys.stderr.write(f"peer: {error}\n")


def _echo(side: _Side, context: ssl.SSLContext) -> Iterator[Figure]:
    seconds = echo(side.port, context, 64, ECHO_ROUNDS)
    yield from _latency(f"echo of 64 bytes, {side.name}", seconds)


def _echo_sessions(side: _Side, context: ssl.SSLContext) -> Iterator[Figure]:
    rate = echo_sessions(side.port, context, SESSIONS, SESSION_ROUNDS)
    yield Figure(f"echoes of {SESSIONS} sessions, {side.name}", rate, "round trips/s")


def _bulk(name: str, side: _Side, move: Callable[..., float]) -> Iterator[Figure]:
    before = {key: process.usage().cpu for key, process in side.processes.items()}
    seconds = move(port=side.port)
    yield Figure(name, BULK / 1e6 / seconds, "MB/s")
    for key, process in side.processes.items():
        used = (process.usage().cpu - before[key]) / (BULK / GB)
        yield Figure(f"{name}, CPU of {key}", used, "s/GB")


def _together(count: int, run: Callable[..., object], *, port: int) -> float:
    threads = [threading.Thread(target=run, kwargs={"port": port}) for _ in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _latency(name: str, seconds: list[float]) -> Iterator[Figure]:
    seconds.sort()
    yield Figure(f"{name}, p50", statistics.median(seconds) * 1e3, "ms")
    yield Figure(f"{name}, p99", seconds[int(len(seconds) * 0.99)] * 1e3, "ms")


def _beside_bulk(bench: Bench) -> Iterator[Figure]:
    """Echoes beside a log download that runs as fast as it can, and on a tunnel whose log nobody
    reads; a download on a tunnel that has another session."""
    context = client_context(bench.pki)
    port = bench.stream_port
    for side, side_port in (("relay", bench.relay_port), ("ours", port)):
        # A process of its own: a thread of this one would hold up the echoes it is compared with.
        bulk = multiprocessing.get_context("spawn").Process(
            target=download_for, args=(side_port, bench.pki, 8 * BULK), daemon=True
        )
        bulk.start()
        time.sleep(2)
        seconds = echo(side_port, context, 64, ECHO_ROUNDS // 4)
        bulk.terminate()
        bulk.join()
        yield from _latency(f"echo of 64 bytes beside a saturated log, {side}", seconds)
    with bench.idle_session():
        rate = BULK / 1e6 / download(port, context, BULK)
        yield Figure("log download beside an idle session, ours", rate, "MB/s")
    with bench.stalled_log():
        seconds = echo(port, context, 64, ECHO_ROUNDS)
        yield from _latency("echo of 64 bytes beside a stalled log, ours", seconds)


def _idle(bench: Bench) -> Iterator[Figure]:
    names = [f"idle-{number}" for number in range(TUNNELS)]
    issue_all(Path(bench.pki), nodes=names)
    for side, port, process in (
        ("relay", bench.handshake_port, bench.relay),
        ("ours", bench.tunnel_port, bench.cloud),
    ):
        hold_tunnels(port, bench.pki, names[:50], lambda: None)
        before = process.usage()
        rate, held = hold_tunnels(port, bench.pki, names, process.usage)
        yield Figure(f"idle tunnels, connects, {side}", rate, "per s")
        used = (held.cpu - before.cpu) / TUNNELS
        yield Figure(f"idle tunnels, CPU per connect, {side}", used * 1e3, "ms")
    memory = (held.rss - before.rss) / TUNNELS / 1024
    yield Figure("idle tunnels, memory each, ours", memory, "KiB")
