"""Requests of all kinds, many at once, a quarter of them aborted at a random byte: nothing is left.

``TUNNEL_REQUESTS`` is how many over each version of the wire, 400 unless told otherwise, and
``TUNNEL_SEED`` repeats a run.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudSettings
from edgestream.kubelet.cri_backend import CriBackend
from streamkit.session.session import Session
from streamkit.session.v1_base import V1Session
from streamkit.session.v2 import V2Session
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import ScriptedKubelet, connected_edge
from tests.support.http_server import SWITCHED, Peer, scripted_server
from tests.support.node import ScriptedNode
from tests.support.runtime import serving
from tests.support.v1_link import v1_link_to

REQUESTS = int(os.environ.get("TUNNEL_REQUESTS", "400"))
SEED = int(os.environ.get("TUNNEL_SEED", "0")) or random.randrange(1, 2**32)
AT_ONCE = 16
BACK = 2.0
"""Seconds after the last request until everything is as it was."""
DEADLINE = 20.0

LINES = [f"line {number} of a log" for number in range(5000)]
LAST = LINES[-1].encode() + b"\n"
ECHO, BYE = b"hello " * 20_000, b"bye"

pytestmark = pytest.mark.timeout(60 + REQUESTS / 10)


@dataclass(frozen=True)
class Kind:
    """A request's bytes, and those that the answer has to end with.

    ``stays``: the answer is read up to these, since the cloud does not end the connection.
    """

    request: bytes
    end: bytes
    stays: bool = False


def request_of(*lines: str) -> bytes:
    return "\r\n".join((*lines, "Host: 127.0.0.1:10351", "", "")).encode()


def plain(target: str, *lines: str, end: bytes, stays: bool = False) -> Kind:
    request = request_of(f"GET {target} HTTP/1.1", "Connection: close", *lines)
    return Kind(request, end, stays)


def upgraded(target: str, *, refusal: bytes = b"") -> Kind:
    request = request_of(
        f"POST {target} HTTP/1.1",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        "X-Stream-Protocol-Version: v4.channel.k8s.io",
        "Content-Length: 0",
    )
    return Kind(request, refusal, True) if refusal else Kind(request + ECHO + BYE, ECHO + BYE)


def proxied(target: str, end: bytes, *, node: str = NODE) -> Kind:
    return plain(target, f"X-Forwarded-Uri: /api/v1/nodes/{node}/proxy{target}", end=end)


CONTAINER = "default/web/app"
STREAMS = "input=1&output=1"
LAST_CHUNK = b"\r\n0\r\n\r\n"
KINDS = (
    plain(f"/containerLogs/{CONTAINER}", end=LAST + LAST_CHUNK),
    plain(f"/containerLogs/{CONTAINER}?tailLines=10", end=LAST + LAST_CHUNK),
    plain(f"/containerLogs/{CONTAINER}?follow=true", end=LAST, stays=True),
    upgraded(f"/exec/{CONTAINER}?command=x&{STREAMS}"),
    upgraded(f"/attach/{CONTAINER}?{STREAMS}"),
    upgraded("/portForward/default/web"),
    proxied("/stats/summary", b"\n}"),
    proxied("/metrics/resource", b"\nresource_scrape_error 0\n"),
    proxied("/pods", b"}]}}]}\n"),
    plain("/containerLogs/default/web/nobody", end=b"ContainerCreating" + LAST_CHUNK),
    upgraded(f"/exec/default/nobody/app?command=x&{STREAMS}", refusal=b'"code": 404}'),
    proxied("/nowhere", b'"code": 404}'),
    proxied("/pods", b'"code": 503}', node="edge-9"),
)


async def echo(peer: Peer) -> None:
    """The runtime's streaming server: everything comes back, up to the last word."""
    await peer.receive_head()
    await peer.send(SWITCHED)
    data = b""
    while not data.endswith(BYE) and (data := await peer.receive()):
        await peer.send(data)


@dataclass(frozen=True)
class Pair:
    """Both services, connected, in this process."""

    cloud: Cloud
    kubelet: ScriptedKubelet
    context: ssl.SSLContext

    @property
    def gauges(self) -> dict[str, int]:
        """What either side counts, and what the process holds."""
        streams = self.cloud.service._streams
        sessions = {
            "cloud": self.cloud.service.registry.by_name(NODE).session,
            "edge": self.kubelet.session(),
        }
        return {
            "tasks": len(asyncio.all_tasks()),
            "files": len(os.listdir("/proc/self/fd")),
            "nodes": len(self.cloud.service.registry),
            "connections": len(streams._connections),
            "opening": streams._opening,
            "finite": len(streams._finite),
            "handlers": self.kubelet.live,
            **{f"channels, {side}": channels_of(session) for side, session in sessions.items()},
        }

    async def wait_until_back(self, before: dict[str, int]) -> None:
        """Wait until no gauge is higher than it was."""
        excess: Counter[str] = Counter()
        try:
            async with asyncio.timeout(BACK):
                while excess := Counter(self.gauges) - Counter(before):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            names = sorted(task.get_name() for task in asyncio.all_tasks())
            pytest.fail(f"left after {BACK:g} s: {dict(excess)}; tasks: {names}")


def channels_of(session: Session | None) -> int:
    """Channels that a side keeps in its table or in its mux."""
    assert isinstance(session, V1Session | V2Session)
    return max(session.channel_count, len(list(session.mux.channel_ids)))


def strays(pair: Pair) -> int:
    """Messages that came for channels that were dead by then, at either side."""
    found = 0
    for session in (pair.cloud.service.registry.by_name(NODE).session, pair.kubelet.session()):
        assert isinstance(session, V1Session | V2Session)
        found += session.mux.stray_messages
    return found


@pytest.fixture(params=["v2", "v1"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """The kubelet service answers, from files and from a scripted runtime."""
    deadlines = CloudDeadlines(close=0.1, reconnect=0.05)
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=deadlines)
    node = ScriptedNode(tmp_path / "node", cgroups=2)
    log = node.pod_logs / "app" / "0.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"2026-01-01T00:00:00.000000000Z stdout F {line}\n" for line in LINES))
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(scripted_server(echo))
        node.runtime.streaming_url = server.url
        await stack.enter_async_context(serving(node.runtime, tmp_path / "cri.sock"))
        backend = CriBackend(
            f"unix://{tmp_path}/cri.sock", call_deadline=20, dial_deadline=5, node=node.facts
        )
        stack.push_async_callback(backend.close)
        cloud = await stack.enter_async_context(running_cloud(tmp_path / "pki", settings))
        port = cloud.tunnel_port
        if request.param == "v1":
            port = await stack.enter_async_context(v1_link_to(port, cloud.pki))
        kubelet = await stack.enter_async_context(connected_edge(cloud, backend.serve, port=port))
        assert cloud.service.registry.by_name(NODE).session.is_text is (request.param == "v1")
        yield Pair(cloud, kubelet, cloud.client_context("apiserver-client"))


async def ask(pair: Pair, kind: Kind, chance: random.Random | None, size: int) -> int:
    """Ask, and read the whole answer; with ``chance``, leave at a random byte instead.

    Returns how many bytes came; ``size`` is how many come of a whole answer.
    """
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", pair.cloud.stream_port, ssl=pair.context, limit=1 << 20
        )
        try:
            if chance is None:
                return await _read_whole(kind, reader, writer)
            if chance.random() < 0.3:
                writer.write(kind.request[: chance.randrange(len(kind.request))])
                await writer.drain()
            else:
                writer.write(kind.request)
                with contextlib.suppress(asyncio.IncompleteReadError):
                    await reader.readexactly(chance.randrange(size))
            if chance.random() < 0.5:
                reset = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, reset
                )
            return 0
        finally:
            writer.transport.abort()


async def _read_whole(
    kind: Kind, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> int:
    writer.write(kind.request)
    if kind.stays:
        return len(await reader.readuntil(kind.end))
    answer = await reader.read(-1)
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.endswith(kind.end), answer[-200:]
    return len(answer)


async def test_nothing_is_left_of_many_requests(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    chance = random.Random(SEED)
    sizes = {kind: await ask(pair, kind, None, 0) for kind in KINDS}
    gc.collect()
    before = pair.gauges
    caplog.clear()
    plan = [(chance.choice(KINDS), number % 4 == 0) for number in range(REQUESTS)]
    queue = iter(plan)

    async def work() -> None:
        for kind, is_aborted in queue:
            await ask(pair, kind, chance if is_aborted else None, sizes[kind])

    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    ended = loop.time()
    await pair.wait_until_back(before)
    seconds, until_back = ended - begin, loop.time() - ended
    sys.stdout.write(f"seed {SEED}: {REQUESTS} in {seconds:.1f} s, {until_back:.2f} s until back\n")
    lines = Counter(record.getMessage() for record in caplog.records)
    sys.stdout.write(f"{lines.total()} lines, {strays(pair)} messages for nobody\n")
    # What a request logs names it. No line is about a message, above all one for a dead channel.
    assert [line for line in lines if "/" not in line] == []
    assert lines.total() <= REQUESTS
