"""Kubelets that answer badly, or end a session badly, each in one way of ``endings.jsonl``."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloudstream.config import CloudDeadlines, CloudSettings
from edgestream.kubelet.kubelet_backend import KubeletBackend
from tests.integration.replay.heard import STATUS_STREAM, STDERR, STDOUT
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.http_server import Peer, Script, free_port, scripted_server
from tests.support.spdy import data_frame, goaway, reply, rst_stream

OPEN_DEADLINE = 1.0
DELAY = 0.2
WORDS = b"the words of a kubelet\n"
STARTED = b"start\n"
STATUS = json.dumps(
    {"metadata": {}, "status": "Failure", "message": "it was lost", "reason": "InternalError"}
).encode()

_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
_VERSION = b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
_SESSION = b"".join(
    (*(reply(stream) for stream in (STATUS_STREAM, STDOUT, STDERR)), data_frame(STDOUT, STARTED))
)


@asynccontextmanager
async def behind(pki: Path, script: Script | None) -> AsyncIterator[Cloud]:
    """A cloud whose edge puts all requests to a kubelet of that script; None: there is none."""
    deadlines = CloudDeadlines(open=OPEN_DEADLINE, close=0.1)
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=deadlines)
    async with (
        scripted_server(script or silent) as server,
        running_cloud(pki, settings) as cloud,
    ):
        port = server.port if script else free_port()
        backend = KubeletBackend("127.0.0.1", port, dial_deadline=OPEN_DEADLINE)
        async with connected_edge(cloud, backend.serve):
            yield cloud


# -- before the answer, and within it


async def closes_at_once(peer: Peer) -> None:
    """It does not even read."""


async def resets_at_once(peer: Peer) -> None:
    peer.reset()


async def closes(peer: Peer) -> None:
    await peer.receive_head()


async def resets(peer: Peer) -> None:
    await peer.receive_head()
    peer.reset()


async def says_garbage(peer: Peer) -> None:
    await peer.receive_head()
    await peer.send(b"\x00\x01garbage\r\n\r\n")


async def silent(peer: Peer) -> None:
    await peer.receive_all()


async def late(peer: Peer) -> None:
    await peer.receive_head()
    await asyncio.sleep(DELAY)
    await peer.send(_PLAIN % len(WORDS) + WORDS)


async def slow(peer: Peer) -> None:
    await peer.receive_head()
    await peer.send(_PLAIN % len(WORDS))
    for byte in WORDS:
        await peer.send(bytes((byte,)))
        await asyncio.sleep(DELAY / len(WORDS))


async def truncates(peer: Peer) -> None:
    await peer.receive_head()
    await peer.send(_PLAIN % (len(WORDS) + 1) + WORDS)


async def truncates_by_reset(peer: Peer) -> None:
    await truncates(peer)
    peer.reset()


# -- behind the 101


async def switches(peer: Peer) -> None:
    await peer.receive_head()
    await peer.send(_SWITCH + _VERSION + b"\r\n")


async def switches_and_waits(peer: Peer) -> None:
    await switches(peer)
    await asyncio.sleep(DELAY)


async def switches_and_resets(peer: Peer) -> None:
    await switches(peer)
    peer.reset()


async def switches_and_is_silent(peer: Peer) -> None:
    await switches(peer)
    await peer.receive_all()


async def names_no_version(peer: Peer) -> None:
    await peer.receive_head()
    await peer.send(_SWITCH + b"\r\n" + _SESSION + data_frame(STATUS_STREAM, STATUS, is_last=True))


# -- within a session


def session(*frames: bytes, ends: bool = True, is_reset: bool = False) -> Script:
    """One that has begun, then says this, and ends or does not."""

    async def serve(peer: Peer) -> None:
        await switches(peer)
        await peer.receive()  # the streams are opened
        await peer.send(b"".join((_SESSION, *frames)))
        if is_reset:
            peer.reset()
        elif not ends:
            await peer.receive_all()

    return serve


_TOLD = data_frame(STATUS_STREAM, STATUS, is_last=True)
_FINISHED = (data_frame(STDOUT, b"", is_last=True), data_frame(STDERR, b"", is_last=True))

SCRIPTS: dict[str, Script | None] = {
    "connection-refused": None,
    "tcp-rst-after-accept": resets_at_once,
    "tcp-fin-after-accept": closes_at_once,
    "close-without-answer": closes,
    "rst-without-answer": resets,
    "garbage-answer": says_garbage,
    "silent-30s-then-close": silent,
    "silent-75s-then-close": silent,
    "answer-delayed-5s": late,
    "answer-delayed-40s": late,
    "dribble": slow,
    "truncated-fin": truncates,
    "truncated-close-notify": truncates,
    "truncated-rst": truncates_by_reset,
    "101-then-close": switches,
    "101-then-close-1s": switches_and_waits,
    "101-then-rst": switches_and_resets,
    "101-then-silence-45s": switches_and_is_silent,
    "101-without-protocol-header": names_no_version,
    "session-fin": session(),
    "session-close-notify": session(),
    "session-rst": session(is_reset=True),
    "session-rststreams": session(*map(rst_stream, (STDERR, STATUS_STREAM, STDOUT))),
    "session-goaway": session(goaway(STDERR)),
    "session-freeze": session(ends=False),
    "session-status": session(_TOLD, *_FINISHED),
    "session-status-no-fin-others": session(_TOLD),
}
"""By the name of the ending. A kubelet behind an edge speaks plain HTTP, so it closes without TLS's
close_notify; and who is silent here is so until nobody listens."""
