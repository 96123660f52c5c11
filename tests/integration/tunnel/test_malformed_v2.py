"""An edge that breaks v2's rules loses its tunnel and its session, at once and alone."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudSettings
from cloudstream.tunnel_socket import EdgeTunnel
from streamkit.session.v2 import V2CloudSession
from streamkit.wire.v2_message import V2Type
from tests.integration.tunnel.attacks import (
    EXEC,
    FROM_EDGE,
    HEAD,
    NO_HELLOS,
    TO_NEIGHBOUR,
    UNKNOWN_IDS,
    Attack,
    each,
    echo,
    endless_fragments,
    message,
)
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.frames import BINARY, CONTINUATION, PING, frame
from tests.support.v2_peers import RawEdge, raw_edge
from tests.support.wait import until


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pki")


@pytest.fixture
async def cloud(pki: Path) -> AsyncIterator[Cloud]:
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=CloudDeadlines(close=0.1))
    async with (
        running_cloud(pki, settings) as running,
        connected_edge(running, echo, node="edge-2", node_ip="127.0.0.2"),
    ):
        yield running


def session_of(cloud: Cloud) -> V2CloudSession:
    session = cloud.service.registry.by_name(NODE).session
    assert isinstance(session, V2CloudSession)
    return session


def tunnel_of(cloud: Cloud) -> EdgeTunnel:
    tunnel = cloud.service.registry.by_name(NODE)._tunnel
    assert isinstance(tunnel, EdgeTunnel)
    return tunnel


async def asked(edge: RawEdge) -> int:
    """The edge gets a request, and answers that it switches protocols."""
    channel_id, kind, _ = await edge.receive()
    assert kind == V2Type.OPEN
    edge.send(channel_id, V2Type.HEAD, HEAD)
    return channel_id


async def neighbour_works(cloud: Cloud) -> None:
    async with api_client(cloud) as client:
        answer = await client.get("/pods", TO_NEIGHBOUR)
    assert (answer.status, answer.is_complete) == (200, True)


@each(FROM_EDGE)
async def test_a_cloud_ends_the_edge_that_breaks_the_rules(
    cloud: Cloud, attack: Attack, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with api_client(cloud) as neighbour, api_client(cloud) as client, raw_edge(cloud) as edge:
        assert (await neighbour.upgrade(EXEC, TO_NEIGHBOUR)).status == 101
        token = (await edge.greet()).session
        asking = asyncio.create_task(client.upgrade(EXEC))
        assert await asked(edge) == 1
        assert (await asking).status == 101
        session, tunnel = session_of(cloud), tunnel_of(cloud)
        caplog.clear()
        attack(edge)
        assert await edge.closed() == (1002, sentence)
        # Its session is over, for its callers too, and can't be resumed.
        assert [node.name for node in cloud.service.registry.nodes()] == ["edge-2"]
        assert session.channel_count == 0
        assert b"session was lost" in await client.rest()
        assert not tunnel._fragments
        assert not tunnel._early
        assert len(caplog.records) <= 4
        neighbour.writer.write(b"still here")
        assert await neighbour.receive(10) == b"still here"
    async with raw_edge(cloud, token=token) as edge:
        assert (await edge.greet(session=token)).session != token


@each(NO_HELLOS)
async def test_a_cloud_waits_for_a_hello(cloud: Cloud, attack: Attack, sentence: str) -> None:
    async with raw_edge(cloud) as edge:
        attack(edge)
        assert await edge.closed() == (1002, sentence)
    await until(lambda: len(cloud.service.registry) == 1)
    await neighbour_works(cloud)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(BINARY, bytes(100), masked=False), 1002),
        (frame(0x3, b"x", masked=True), 1002),
        (bytes((0x82, 0xFF)) + (1 << 62).to_bytes(8) + bytes(4), 1009),
        (endless_fragments(masked=True), 1009),
    ],
    ids=["unmasked", "an opcode nobody knows", "a huge frame", "fragments without an end"],
)
async def test_a_cloud_ends_the_edge_that_breaks_websockets_rules(
    cloud: Cloud, sent: bytes, code: int
) -> None:
    async with raw_edge(cloud) as edge:
        await edge.greet()
        tunnel = tunnel_of(cloud)
        edge.writer.write(sent)
        assert (await edge.closed())[0] == code
        await until(lambda: len(cloud.service.registry) == 1)
        assert not tunnel._fragments
    await neighbour_works(cloud)


async def test_messages_for_channels_that_nobody_opened_cost_a_cloud_nothing(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with raw_edge(cloud) as edge, api_client(cloud) as client:
        await edge.greet()
        session = session_of(cloud)
        caplog.clear()
        for channel_id in UNKNOWN_IDS:
            edge.send(channel_id, V2Type.DATA, b"x")
        await until(lambda: session.mux.stray_messages == len(UNKNOWN_IDS), deadline=40)
        assert len(caplog.records) < 10
        assert (list(session.mux.channel_ids), session.channel_count) == ([], 0)
        asking = asyncio.create_task(client.upgrade(EXEC))
        await asked(edge)
        assert (await asking).status == 101


async def test_empty_fragments_do_not_pile_up(cloud: Cloud) -> None:
    async with raw_edge(cloud) as edge:
        await edge.greet()
        session, tunnel = session_of(cloud), tunnel_of(cloud)
        edge.send_frame(BINARY, fin=False)
        for _ in range(10_000):
            edge.send_frame(CONTINUATION, fin=False)
        edge.send_frame(CONTINUATION, message(V2Type.DATA, b"x", 77), fin=True)
        await until(lambda: session.mux.stray_messages == 1)
        assert len(tunnel._fragments) == 0
        assert not tunnel._is_fragmented


async def test_pings_whose_answers_are_not_read_do_not_pile_up(cloud: Cloud) -> None:
    async with raw_edge(cloud, small_buffers=True) as edge:
        await edge.greet()
        session, tunnel = session_of(cloud), tunnel_of(cloud)
        assert tunnel._transport is not None
        for _ in range(30_000):
            edge.send_frame(PING, bytes(125))
        edge.send(77, V2Type.DATA, b"x")
        await until(lambda: session.mux.stray_messages == 1, deadline=30)
        assert tunnel._transport.underlying_transport.get_write_buffer_size() < 200_000


@pytest.mark.parametrize("token", ["", "caf\xe9", "0" * 32, "x" * 10_000])
async def test_a_token_that_is_none_gets_a_new_session(cloud: Cloud, token: str) -> None:
    async with raw_edge(cloud) as one:
        first = (await one.greet()).session
        async with raw_edge(cloud, token=token) as other:
            assert (await other.greet()).session != first
        assert (await one.closed())[0] == 4001
