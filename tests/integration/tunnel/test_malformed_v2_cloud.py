"""A cloud that breaks v2's rules loses its tunnel and its session, at once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgestream.kubelet.exchange import Exchange
from streamkit.wire.v2_message import V2Type, encode_open
from tests.integration.tunnel.attacks import (
    FROM_CLOUD,
    NO_HELLOS,
    SWITCH,
    UNKNOWN_IDS,
    UPGRADE,
    Attack,
    each,
    endless_fragments,
)
from tests.support.frames import BINARY, frame
from tests.support.v2_peers import RawCloud, raw_cloud


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pki")


@pytest.fixture
async def rude_cloud(pki: Path) -> AsyncIterator[RawCloud]:
    async with raw_cloud(pki) as running:
        yield running


async def idle(exchange: Exchange) -> None:
    await exchange.send_head(SWITCH)
    await asyncio.Future()


@each(FROM_CLOUD)
@pytest.mark.usefixtures("library")
async def test_an_edge_ends_the_session_of_a_cloud_that_breaks_the_rules(
    rude_cloud: RawCloud, attack: Attack, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with rude_cloud.edge(idle) as kubelet:
        tunnel = await rude_cloud.accept()
        assert (await tunnel.greet()).session == ""
        await tunnel.open(1, UPGRADE)
        assert kubelet.live == 1
        caplog.clear()
        attack(tunnel)
        assert await tunnel.closed() == (1002, sentence)
        tunnel.leave()
        # What ran is ended, and the edge comes back as one that has no past.
        again = await rude_cloud.accept()
        assert kubelet.live == 0
        assert "edgestream-session" not in again.headers
        hello = await again.greet(session="s2")
        assert (hello.session, hello.received) == ("", {})
        await again.open(1, UPGRADE)
        assert len([record for record in caplog.records if record.levelno >= 30]) <= 2


@each(NO_HELLOS)
@pytest.mark.usefixtures("library")
async def test_an_edge_waits_for_a_hello(
    rude_cloud: RawCloud, attack: Attack, sentence: str
) -> None:
    async with rude_cloud.edge(idle):
        tunnel = await rude_cloud.accept()
        attack(tunnel)
        assert await tunnel.closed() == (1002, sentence)
        tunnel.leave()
        await (await rude_cloud.accept()).greet()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(BINARY, bytes(100), masked=True), 1002),
        (frame(0x3, b"x", masked=False), 1002),
        (bytes((0x82, 0x7F)) + (1 << 62).to_bytes(8), 1009),
        (endless_fragments(masked=False), 1009),
    ],
    ids=["masked", "an opcode nobody knows", "a huge frame", "fragments without an end"],
)
@pytest.mark.usefixtures("library")
async def test_an_edge_does_not_resume_what_broke_websockets_rules(
    rude_cloud: RawCloud, sent: bytes, code: int
) -> None:
    async with rude_cloud.edge(idle) as kubelet:
        tunnel = await rude_cloud.accept()
        await tunnel.greet()
        await tunnel.open(1, UPGRADE)
        tunnel.writer.write(sent)
        assert (await tunnel.closed())[0] == code
        tunnel.leave()
        again = await rude_cloud.accept()
        assert "edgestream-session" not in again.headers
        assert kubelet.live == 0


@pytest.mark.usefixtures("library")
async def test_messages_for_channels_that_nobody_opened_cost_an_edge_nothing(
    rude_cloud: RawCloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with rude_cloud.edge(idle):
        tunnel = await rude_cloud.accept()
        await tunnel.greet()
        caplog.clear()
        for channel_id in UNKNOWN_IDS[:20_000]:
            tunnel.send(channel_id, V2Type.DATA, b"x")
        await tunnel.writer.drain()
        tunnel.send_message(encode_open(1, UPGRADE))
        async with asyncio.timeout(40):
            while (await tunnel.receive())[:2] != (1, V2Type.HEAD):
                pass
        assert len(caplog.records) < 10


@pytest.mark.usefixtures("library")
async def test_a_session_without_a_name_is_none(rude_cloud: RawCloud) -> None:
    async with rude_cloud.edge(idle):
        tunnel = await rude_cloud.accept()
        await tunnel.greet(session="")
        assert await tunnel.closed() == (1002, "the cloud gave the session no name")
