"""Links and peers that are slow, silent or too many: who waits for whom, and for how long."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudSettings
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.link import link_to
from tests.support.v2_peers import RawCloud, raw_cloud, raw_edge
from tests.support.wait import until


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pki")


@pytest.fixture
async def cloud(pki: Path) -> AsyncIterator[Cloud]:
    deadlines = CloudDeadlines(
        handshake=0.5, heartbeat=0.2, heartbeat_timeout=1.0, resume_timeout=20
    )
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=deadlines)
    async with running_cloud(pki, settings) as running:
        yield running


@pytest.fixture
async def silent_cloud(pki: Path) -> AsyncIterator[RawCloud]:
    async with raw_cloud(pki) as running:
        yield running


async def idle(exchange: Exchange) -> None:
    await exchange.send_head(ResponseHead(200))
    await asyncio.Future()


@pytest.mark.usefixtures("library")
async def test_a_message_that_takes_longer_than_the_heartbeat_allows_is_no_silence(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(bytes(100_000))

    async with (
        link_to(cloud.tunnel_port) as link,
        connected_edge(cloud, serve, port=link.port, heartbeat=0.2, silence=1.0),
        api_client(cloud) as client,
    ):
        link.rate = 40_000
        answer = await client.get("/containerLogs/default/web/c")
        assert (len(answer.body), answer.is_complete) == (100_000, True)
        link.rate = 0
    assert not [line for line in caplog.messages if "may resume" in line]


async def test_a_cloud_does_not_wait_for_a_hello_for_ever(cloud: Cloud) -> None:
    async with raw_edge(cloud) as edge, api_client(cloud) as client:
        asking = asyncio.create_task(client.get("/containerLogs/default/web/c"))
        assert (await edge.closed())[0] == 4008
        # Nobody can come back for a session that was never named.
        await until(lambda: len(cloud.service.registry) == 0)
        answer = await asking
        assert answer.status >= 400
        assert b"no hello within 0.5 s" in answer.body


@pytest.mark.usefixtures("library")
async def test_an_edge_does_not_wait_for_a_hello_for_ever(silent_cloud: RawCloud) -> None:
    async with silent_cloud.edge(idle, handshake=0.5, heartbeat=0.1):
        tunnel = await silent_cloud.accept()
        code, reason = await tunnel.closed()
        assert code == 4008
        assert reason in ("", "the cloud said no hello within 0.5 s")
        tunnel.leave()
        again = await silent_cloud.accept()
        await again.greet()


async def test_of_two_agents_with_one_name_the_newest_serves_and_the_other_waits_longest(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(exchange: Exchange, text: bytes) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.write(text)

    async with connected_edge(cloud, lambda exchange: answer(exchange, b"older")):
        before = cloud.service.registry.by_name(NODE)
        async with connected_edge(cloud, lambda exchange: answer(exchange, b"newer")):
            await until(lambda: cloud.service.registry.by_name(NODE) is not before)
            line = rf'"{NODE}" took over \[KS2002\]; attempt 2 follows in (.+) s'
            await until(lambda: bool(re.search(line, caplog.text)))
            pauses = re.findall(line, caplog.text)
            # Half of the longest pause, or more, at once: from 0.05 s it would have grown slowly.
            assert all(0.1 <= float(pause) <= 0.2 for pause in pauses)
