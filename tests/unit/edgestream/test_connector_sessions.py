"""Which session goes over which tunnel, without a network: the cloud is a session in memory."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest

import edgestream.connector as connector_module
from edgestream.config import Backoff
from edgestream.connector import Connector
from edgestream.kubelet.exchange import Exchange
from edgestream.service import EdgeSessions, serve_cloud
from edgestream.serving import ChannelServer
from edgestream.tunnel import TunnelOptions
from streamkit.errors import (
    DialFailed,
    HeartbeatTimeout,
    RemoteProtocolError,
    StreamError,
    TunnelClosed,
    TunnelLost,
    TunnelReplaced,
)
from streamkit.session.session import Session
from streamkit.session.v2 import V2CloudSession
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.v2 import V2Settings
from streamkit.wire.v2_message import SUBPROTOCOL
from tests.support.edge import ScriptedKubelet
from tests.support.handler import RecordingHandler
from tests.support.messages import messages_of
from tests.support.wait import until
from tests.unit.edgestream.test_connector import OPTIONS

UPGRADE = RequestHead("POST", "/exec/default/web/c", (("Connection", "Upgrade"),))
LOST = TunnelLost("the connection to the cloud was lost")


class MemoryTunnel:
    """A tunnel to a cloud's session in this process."""

    def __init__(self, cloud: V2CloudSession | None) -> None:
        self._cloud = cloud
        self._ends = asyncio.get_running_loop().create_future()
        self.subprotocol = SUBPROTOCOL if cloud else ""

    def end(self, error: StreamError) -> None:
        """The tunnel is over, for both sides."""
        if self._cloud:
            self._cloud.detach()
        self._ends.set_result(error)

    async def run(self, session: Session) -> None:
        output = asyncio.Event()
        session.output_ready = output.set
        session.attach()
        if self._cloud:
            self._cloud.output_ready = output.set
            self._cloud.attach()
        output.set()
        try:
            while not self._ends.done():
                waiting = asyncio.ensure_future(output.wait())
                await asyncio.wait((waiting, self._ends), return_when="FIRST_COMPLETED")
                waiting.cancel()
                output.clear()
                if self._cloud and not self._ends.done():
                    for payload in messages_of(session):
                        self._cloud.message_received(payload)
                    for payload in messages_of(self._cloud):
                        session.message_received(payload)
        finally:
            session.detach()
        raise self._ends.result()


class Network:
    """What dialling does: each attempt waits for the test to say."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self._attempts: asyncio.Queue[asyncio.Future[MemoryTunnel]] = asyncio.Queue()

    async def dial(
        self, options: TunnelOptions, context: ssl.SSLContext, *, session_token: str
    ) -> MemoryTunnel:
        self.tokens.append(session_token)
        answer: asyncio.Future[MemoryTunnel] = asyncio.get_running_loop().create_future()
        self._attempts.put_nowait(answer)
        return await answer

    async def dialled(self) -> asyncio.Future[MemoryTunnel]:
        """The edge's next attempt, to be answered."""
        async with asyncio.timeout(10):
            return await self._attempts.get()

    async def connect(self, cloud: V2CloudSession | None) -> MemoryTunnel:
        """The next attempt reaches that session, or a stock cloud."""
        attempt = await self.dialled()
        tunnel = MemoryTunnel(cloud)
        attempt.set_result(tunnel)
        if cloud:
            await until(lambda: cloud.is_greeted)
        return tunnel


async def echo(exchange: Exchange) -> None:
    await exchange.send_head(ResponseHead(101))
    while data := await exchange.read():
        await exchange.write(data)


@contextlib.asynccontextmanager
async def edge(
    resume_timeout: float = 30, maximum: float = 0.002
) -> AsyncIterator[tuple[Network, ScriptedKubelet]]:
    """An edge that dials as the test lets it."""
    network = Network()
    kubelet = ScriptedKubelet(echo)
    server = ChannelServer(kubelet, max_channels=10)
    connector = Connector(
        OPTIONS,
        ssl.create_default_context(),
        EdgeSessions(server, buffer_limit=1 << 20, resume_timeout=resume_timeout),
        Backoff(initial=0.001, maximum=maximum),
        resume_timeout=resume_timeout,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connector_module, "dial", network.dial)
        serving = asyncio.create_task(serve_cloud(connector, server))
        try:
            yield network, kubelet
        finally:
            serving.cancel()
            await asyncio.wait((serving,), timeout=5)
            assert kubelet.live == 0


def cloud_session(name: str = "s1", resume_timeout: float = 30) -> V2CloudSession:
    return V2CloudSession(name, V2Settings(resume_timeout=resume_timeout))


class Caller:
    """A request that echoes."""

    def __init__(self, cloud: V2CloudSession) -> None:
        self.handler = RecordingHandler()
        self._channel = cloud.open(UPGRADE, self.handler)
        self.handler.channel = self._channel

    async def works(self, data: bytes) -> None:
        before = len(self.handler.body)
        self._channel.write(data)
        await until(lambda: self.handler.body[before:] == data)


@pytest.mark.parametrize("error", [LOST, HeartbeatTimeout("the cloud was silent for 15 s")])
async def test_a_lost_tunnel_is_followed_by_one_for_the_same_session(error: StreamError) -> None:
    cloud = cloud_session()
    async with edge() as (network, kubelet):
        tunnel = await network.connect(cloud)
        caller = Caller(cloud)
        await caller.works(b"before")
        tunnel.end(error)
        (await network.dialled()).set_exception(DialFailed("nobody there"))
        await network.connect(cloud)
        await caller.works(b"after")
        assert network.tokens == ["", "s1", "s1"]
        assert (kubelet.live, caller.handler.errors) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        TunnelClosed("the cloud service shuts down"),
        TunnelReplaced("a newer tunnel took over"),
        RemoteProtocolError("data came beyond the window"),
    ],
)
async def test_any_other_end_is_the_end_of_the_session(error: StreamError) -> None:
    cloud = cloud_session()
    async with edge() as (network, kubelet):
        tunnel = await network.connect(cloud)
        await Caller(cloud).works(b"before")
        tunnel.end(error)
        await network.dialled()
        await until(lambda: kubelet.live == 0)
        assert network.tokens == ["", ""]


async def test_a_session_that_expires_while_the_edge_dials_for_it() -> None:
    # The cloud still has the session and takes the edge up on its word.
    cloud = cloud_session()
    async with edge(resume_timeout=0.05) as (network, kubelet):
        tunnel = await network.connect(cloud)
        running = Caller(cloud)
        await running.works(b"before")
        tunnel.end(LOST)
        attempt = await network.dialled()
        waiting = Caller(cloud)
        await until(lambda: kubelet.live == 0)
        attempt.set_result(MemoryTunnel(cloud))
        # Both sides agree that the old request is over; what had never left is served.
        await waiting.works(b"after")
        assert network.tokens == ["", "s1"]
        assert [str(error) for error in running.handler.errors] == ["the edge agent began anew"]
        assert waiting.handler.errors == []
        assert cloud.channel_count == kubelet.live == 1


async def test_a_session_that_the_cloud_has_given_up() -> None:
    async with edge() as (network, kubelet):
        first, second = cloud_session("s1"), cloud_session("s2")
        tunnel = await network.connect(first)
        await Caller(first).works(b"before")
        tunnel.end(LOST)
        tunnel = await network.connect(second)
        await until(lambda: kubelet.live == 0)
        caller = Caller(second)
        await caller.works(b"after")
        tunnel.end(LOST)
        await network.connect(second)
        await caller.works(b"and again")
        assert network.tokens == ["", "s1", "s2"]


@pytest.mark.parametrize(("own", "peer"), [(0, 30), (30, 0)])
async def test_a_session_that_one_side_does_not_keep_is_not_asked_for(
    own: float, peer: float
) -> None:
    cloud = cloud_session(resume_timeout=peer)
    async with edge(resume_timeout=own) as (network, kubelet):
        tunnel = await network.connect(cloud)
        await Caller(cloud).works(b"before")
        tunnel.end(LOST)
        await network.dialled()
        await until(lambda: kubelet.live == 0)
        assert network.tokens == ["", ""]


async def test_a_session_that_the_cloud_has_not_named_yet_is_not_kept() -> None:
    async with edge() as (network, _):
        attempt = await network.dialled()
        silent = MemoryTunnel(None)
        silent.subprotocol = SUBPROTOCOL
        attempt.set_result(silent)
        silent.end(LOST)
        await network.connect(cloud_session())
        assert network.tokens == ["", ""]


async def test_a_cloud_that_speaks_v1_now_ends_what_ran_over_v2() -> None:
    cloud = cloud_session()
    async with edge() as (network, kubelet):
        tunnel = await network.connect(cloud)
        await Caller(cloud).works(b"before")
        tunnel.end(LOST)
        stock = await network.connect(None)
        await until(lambda: kubelet.live == 0)
        stock.end(LOST)
        await network.dialled()
        assert network.tokens == ["", "s1", ""]


async def test_an_edge_that_is_asked_to_leave_dials_before_it_goes() -> None:
    first, second = cloud_session("s1"), cloud_session("s2")
    released: list[str] = []
    first.drained = released.append
    async with edge() as (network, kubelet):
        tunnel = await network.connect(first)
        running = Caller(first)
        await running.works(b"before")
        first.drain("the cloud service is stopping")
        attempt = await network.dialled()
        # The old cloud may still ask for more, until the edge has been taken up elsewhere.
        late = Caller(first)
        await late.works(b"late")
        assert released == []
        attempt.set_result(MemoryTunnel(second))
        await until(lambda: second.is_greeted and bool(released))
        await running.works(b"still")
        await Caller(second).works(b"new")
        assert (released, kubelet.live) == (["this node has dialled again"], 3)
        tunnel.end(TunnelClosed("the cloud service shuts down"))
        await until(lambda: kubelet.live == 1)
        assert network.tokens == ["", ""]


async def test_an_edge_that_nobody_else_takes_is_back_when_the_cloud_is() -> None:
    first, second = cloud_session("s1"), cloud_session("s2")
    async with edge(maximum=3600) as (network, _):
        tunnel = await network.connect(first)
        first.drain("the cloud service is stopping")
        for _ in range(20):
            (await network.dialled()).set_exception(DialFailed("refused"))
        await Caller(first).works(b"meanwhile")
        tunnel.end(TunnelClosed("the cloud service shuts down"))
        await network.connect(second)
        await Caller(second).works(b"after")
