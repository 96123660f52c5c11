"""What breaks v2's rules ends its tunnel within 100 ms, again and again, and nothing piles up."""

import asyncio
import gc
import os
import statistics
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudSettings
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from streamkit.wire.message import encode_message
from streamkit.wire.v2_message import V2Type
from tests.support.api_client import ApiClient, api_client
from tests.support.cloud import running_cloud
from tests.support.edge import connected_edge
from tests.support.frames import BINARY, frame
from tests.support.v2_peers import RawPeer, raw_cloud, raw_edge
from tests.support.wait import until

TIMES = 100
SOON = 0.1
"""Seconds from the message to the close frame, as a median: a busy machine may stop for longer."""
GROWTH = 4 << 20
"""Bytes of memory that the second half of the rounds may cost, less than was sent in it."""
TO_NEIGHBOUR = "X-Forwarded-Uri: /api/v1/nodes/edge-2/proxy/pods"
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))

MESSAGES = {
    "a truncated header": b"\x80",
    "an over-long integer": b"\x80" * 11 + b"\x00\x13",
    "an unknown type": encode_message(1, 99, b"x" * 100_000),
    "the session's id on a channel's message": encode_message(0, V2Type.DATA, b"x" * 100_000),
}


def huge(*, masked: bool) -> bytes:
    """A frame that says it is larger than anything, and begins."""
    mask = bytes(4) if masked else b""
    return bytes((0x82, 0xFF if masked else 0x7F)) + (1 << 62).to_bytes(8) + mask + bytes(100_000)


def attacks(*, masked: bool) -> dict[str, tuple[bytes, int]]:
    """Bytes, and the code that the tunnel is closed with, by kind."""
    framed = {
        kind: (frame(BINARY, payload, masked=masked), 1002) for kind, payload in MESSAGES.items()
    }
    return framed | {"a huge length": (huge(masked=masked), 1009)}


def each(*, masked: bool) -> pytest.MarkDecorator:
    kinds = attacks(masked=masked)
    return pytest.mark.parametrize(("sent", "code"), kinds.values(), ids=kinds)


def resident() -> int:
    """Bytes of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Rounds:
    """Does the same to one tunnel after another, and watches time and memory."""

    def __init__(self, sent: bytes, code: int, caplog: pytest.LogCaptureFixture) -> None:
        self._sent = sent
        self._code = code
        self._caplog = caplog
        self._seconds: list[float] = []
        self._resident = 0

    @property
    def are_over(self) -> bool:
        return len(self._seconds) == TIMES

    async def attack(self, peer: RawPeer) -> None:
        """One round."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        peer.writer.write(self._sent)
        assert (await peer.closed())[0] == self._code
        self._seconds.append(loop.time() - begin)
        # What was logged would keep the errors, and through them all that they were about.
        assert [record for record in self._caplog.records if record.exc_info] == []
        self._caplog.clear()
        if len(self._seconds) == TIMES // 2:
            self._resident = resident()

    def check(self) -> None:
        """Assert that all was soon over and that nothing is kept of it."""
        assert statistics.median(self._seconds) < SOON
        assert resident() - self._resident < GROWTH


async def echo(exchange: Exchange) -> None:
    await exchange.send_head(SWITCH)
    while data := await exchange.read():
        await exchange.write(data)


async def works(client: ApiClient) -> None:
    """An open echo still answers."""
    data = os.urandom(100)
    client.writer.write(data)
    assert await client.receive(len(data)) == data


@each(masked=True)
async def test_a_cloud_ends_it_and_no_other_tunnel(
    tmp_path: Path, sent: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=CloudDeadlines(close=0.1))
    rounds = Rounds(sent, code, caplog)
    async with (
        running_cloud(tmp_path / "pki", settings) as cloud,
        connected_edge(cloud, echo, node="edge-2", node_ip="127.0.0.2"),
        api_client(cloud) as neighbour,
    ):
        await neighbour.upgrade("/portForward/default/web", TO_NEIGHBOUR)
        while not rounds.are_over:
            async with raw_edge(cloud) as edge:
                await edge.greet()
                await rounds.attack(edge)
            await works(neighbour)
        await until(lambda: len(cloud.service.registry) == 1)
        rounds.check()


@each(masked=False)
async def test_an_edge_ends_it_and_comes_back(
    tmp_path: Path, sent: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = Rounds(sent, code, caplog)
    async with raw_cloud(tmp_path / "pki") as cloud, cloud.edge(echo):
        while not rounds.are_over:
            tunnel = await cloud.accept()
            await tunnel.greet()
            await rounds.attack(tunnel)
            tunnel.leave()
        rounds.check()
