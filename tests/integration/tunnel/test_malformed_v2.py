"""A peer that breaks v2's rules loses its tunnel and its session, at once and alone."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import edgestream.tunnel
from cloudstream.config import CloudDeadlines, CloudSettings
from cloudstream.tunnel_socket import EdgeTunnel
from edgestream.kubelet.exchange import Exchange
from streamkit.session.v2 import V2CloudSession
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import encode_message
from streamkit.wire.v2_message import Hello, V2Type, encode_hello, encode_open, encode_window
from tests.support.api_client import api_client
from tests.support.cloud import NODE, Cloud, running_cloud
from tests.support.edge import connected_edge
from tests.support.frames import BINARY, CONTINUATION, PING, frame
from tests.support.v2_peers import RawCloud, RawEdge, RawPeer, raw_cloud, raw_edge
from tests.support.wait import until

EXEC = "/exec/default/web/c?command=x&input=1&output=1"
TO_NEIGHBOUR = "X-Forwarded-Uri: /api/v1/nodes/edge-2/proxy/pods"
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
UPGRADE = RequestHead("POST", EXEC, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
HEAD = b'{"status":101,"headers":[["Connection","Upgrade"],["Upgrade","SPDY/3.1"]]}'
WINDOW = 512 * 1024
UNKNOWN_IDS = range(1_000_000, 1_100_000)

Attack = Callable[[RawPeer], None]


def sends(*payloads: bytes) -> Attack:
    """Something that sends these messages."""

    def attack(peer: RawPeer) -> None:
        for payload in payloads:
            peer.send_message(payload)

    return attack


def message(kind: int, data: bytes = b"", channel_id: int = 1) -> bytes:
    return encode_message(channel_id, kind, data)


FLOOD = sends(message(V2Type.DATA, bytes(WINDOW + 1)))
HELLO = encode_hello(Hello("", 1000, 30))

FROM_EITHER: dict[str, tuple[Attack, str]] = {
    "nothing": (sends(b""), "an empty message arrived"),
    "a cut header": (sends(b"\x80"), "a message ends inside its header"),
    "an over-long integer": (
        sends(b"\x80" * 11 + b"\x00\x13"),
        "a message has an integer longer than 10 bytes",
    ),
    "an integer beyond 64 bits": (
        sends(b"\xff" * 9 + b"\x7f\x13"),
        "a message has an integer that does not fit 64 bits",
    ),
    "an unknown type": (sends(message(99)), "a message of type 99 has no place here"),
    "a type of v1": (sends(message(3, b"x")), "a message of type 3 has no place here"),
    "a second hello": (sends(HELLO), "a second hello came"),
    "data of the session": (
        sends(message(V2Type.DATA, b"x", 0)),
        "a message is about a channel or about the session, not both",
    ),
    "data beyond the window": (FLOOD, "data came beyond the window"),
    "an acknowledgement of what was never sent": (
        sends(encode_window(1, 1 << 40, 1 << 41)),
        "the peer acknowledges what was never sent",
    ),
    "half a window update": (
        sends(message(V2Type.WINDOW, b"\x05")),
        "a message ends inside its header",
    ),
    "a reset without JSON": (
        sends(message(V2Type.RESET, b"rubbish")),
        "a message holds no JSON where it should",
    ),
    "JSON of a hundred thousand lists": (
        sends(message(V2Type.RESET, b"[" * 100_000)),
        "a message holds no JSON where it should",
    ),
    "two ends": (
        sends(message(V2Type.END), message(V2Type.END)),
        "an end came before a channel's opening or twice",
    ),
}

FROM_EDGE = {
    **FROM_EITHER,
    "an open": (
        sends(encode_open(9, RequestHead("GET", "/pods"))),
        "a message of type 17 has no place here",
    ),
    "a second head": (sends(message(V2Type.HEAD, HEAD)), "a channel was opened twice"),
    "a head that would split the answer": (
        sends(message(V2Type.HEAD, b'{"status":200,"reason":"OK\\r\\nX: y"}', 77)),
        "a head can't be used: its reason phrase is none",
    ),
}

FROM_CLOUD = {
    **FROM_EITHER,
    "a head": (sends(message(V2Type.HEAD, HEAD)), "a message of type 18 has no place here"),
    "an open of an open channel": (
        sends(encode_open(1, UPGRADE)),
        "a channel id was used twice",
    ),
    "an open with a URL": (
        sends(message(V2Type.OPEN, b'{"method":"GET","target":"http://127.0.0.1/"}', 9)),
        "an open can't be used: its target is no path",
    ),
}

NO_HELLOS: dict[str, tuple[Attack, str]] = {
    "data": (sends(message(V2Type.DATA, b"x")), "a message came before the hello"),
    "rubbish": (
        sends(message(V2Type.HELLO, b"rubbish", 0)),
        "a message holds no JSON where it should",
    ),
    "an empty object": (
        sends(message(V2Type.HELLO, b"{}", 0)),
        "a hello lacks something or has it wrong",
    ),
}


def endless_fragments(*, masked: bool) -> bytes:
    """A message that is larger than allowed before its last fragment comes."""
    return b"".join(
        frame(opcode, bytes(1 << 20), fin=False, masked=masked)
        for opcode in (BINARY, CONTINUATION, CONTINUATION)
    )


def each(attacks: dict[str, tuple[Attack, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("attack", "sentence"), attacks.values(), ids=attacks.keys())


async def echo(exchange: Exchange) -> None:
    await exchange.send_head(SWITCH if exchange.request.is_upgrade else ResponseHead(200))
    while data := await exchange.read():
        await exchange.write(data)


# -- a cloud and edges that break the rules ------------------------------------------------------


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


# -- an edge and clouds that break the rules -----------------------------------------------------


@pytest.fixture(params=["picows", "websockets"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries that an edge may run on."""
    monkeypatch.setattr(edgestream.tunnel, "has_picows", lambda: request.param == "picows")


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
