import asyncio
import logging

import pytest

from cloudstream.node_session import NodeSession
from streamkit.errors import HeartbeatTimeout, StreamError, TunnelClosed, TunnelReplaced
from streamkit.session.session import CloudSession
from streamkit.session.v1_cloud import V1CloudSession
from streamkit.session.v2 import V2CloudSession
from streamkit.wire.exchange import RequestHead
from streamkit.wire.v2 import V2Settings
from streamkit.wire.v2_message import Hello, encode_hello
from tests.support.handler import RecordingHandler
from tests.unit.cloudstream.nodes import FakeTunnel

BROKEN = TunnelClosed("the edge's connection broke")
GET = RequestHead("GET", "/pods")


class Node:
    """A node's session with what it tells its owner."""

    def __init__(
        self, *, resume_timeout: float = 30, peer: float = 30, session: CloudSession | None = None
    ) -> None:
        self.ended: list[NodeSession] = []
        self.is_over = asyncio.Event()
        self.session = session or V2CloudSession("s1", V2Settings())
        self.peer = peer
        self.node = NodeSession(
            "edge-1", self.session, resume_timeout=resume_timeout, ended=self._has_ended
        )
        self.handler = RecordingHandler()

    def _has_ended(self, node: NodeSession) -> None:
        self.ended.append(node)
        self.is_over.set()

    def attach(self, address: str = "10.0.0.1") -> FakeTunnel:
        """A tunnel takes the session over, and is greeted."""
        tunnel = FakeTunnel()
        self.node.attach(tunnel, address)
        self.session.attach()
        if isinstance(self.session, V2CloudSession) and self.peer:
            self.session.message_received(encode_hello(Hello("s1", 1000, self.peer)))
        return tunnel

    def open(self) -> None:
        self.session.open(GET, self.handler)


async def test_a_tunnel_brings_the_address_along() -> None:
    made = Node()
    made.attach("10.0.0.1")
    made.attach("10.0.0.2")
    assert made.node.internal_ip == "10.0.0.2"
    assert not made.node.is_suspended


async def test_the_newest_tunnel_wins() -> None:
    made = Node()
    older = made.attach()
    made.open()
    newer = made.attach()
    assert [type(error) for error in older.closed] == [TunnelReplaced]
    assert newer.closed == []
    # The older one's end comes late, and is none of the session's business.
    made.node.detach(older, BROKEN, will_return=False)
    assert not made.node.is_suspended
    assert (made.ended, made.handler.errors) == ([], [])


async def test_a_lost_tunnel_suspends_and_the_next_one_resumes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made = Node()
    tunnel = made.attach()
    made.open()
    made.node.detach(tunnel, BROKEN, will_return=True)
    states = [(made.node.is_suspended, made.session.is_greeted)]
    assert 'node "edge-1" may resume its 1 requests within 30 s' in caplog.messages
    made.attach()
    states.append((made.node.is_suspended, made.session.is_greeted))
    assert states == [(True, False), (False, True)]
    assert (made.ended, made.handler.errors) == ([], [])


@pytest.mark.parametrize(
    ("resume_timeout", "peer", "will_return"),
    [(30, 30, False), (0, 30, True), (30, 0, True)],
    ids=["the edge is gone", "nothing is kept here", "the edge never heard of it"],
)
async def test_it_ends_with_its_tunnel_where_nothing_can_come_back(
    *, resume_timeout: float, peer: float, will_return: bool
) -> None:
    made = Node(resume_timeout=resume_timeout, peer=peer)
    tunnel = made.attach()
    made.open()
    made.node.detach(tunnel, BROKEN, will_return=will_return)
    assert made.ended == [made.node]
    assert made.handler.errors == [BROKEN]
    assert not made.node.is_suspended


async def test_a_v1_session_ends_with_its_tunnel() -> None:
    made = Node(session=V1CloudSession(buffer_limit=1000))
    tunnel = made.attach()
    made.open()
    made.node.detach(tunnel, BROKEN, will_return=True)
    assert (made.ended, made.handler.errors) == ([made.node], [BROKEN])


@pytest.mark.parametrize(
    ("resume_timeout", "peer", "within"), [(0.01, 30, 30), (30, 0.01, 30), (30, 30, 0.01)]
)
async def test_it_is_kept_for_as_long_as_both_sides_keep_it(
    resume_timeout: float, peer: float, within: float
) -> None:
    made = Node(resume_timeout=resume_timeout, peer=peer)
    tunnel = made.attach()
    made.open()
    made.node.detach(tunnel, BROKEN, will_return=True, within=within)
    async with asyncio.timeout(10):
        await made.is_over.wait()
    (error,) = made.handler.errors
    assert str(error) == ("the edge's connection broke, and it did not come back within 0.01 s")
    assert made.ended == [made.node]


async def test_a_session_that_was_resumed_does_not_expire() -> None:
    made = Node(resume_timeout=0.01)
    made.node.detach(made.attach(), BROKEN, will_return=True)
    made.attach()
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    # Timers of a loop fire in order: the session's would have been due before this one.
    loop.call_later(0.02, passed.set_result, None)
    async with asyncio.timeout(10):
        await passed
    assert made.ended == []


async def test_closing_tells_the_edge_the_owner_and_the_callers_once() -> None:
    made = Node()
    tunnel = made.attach()
    made.open()
    error = TunnelClosed("the cloud service shuts down")
    for _ in range(2):
        made.node.close(error)
    made.node.detach(tunnel, HeartbeatTimeout("late"), will_return=True)
    assert (tunnel.closed, made.ended, made.handler.errors) == ([error], [made.node], [error])
    assert not made.node.is_suspended


async def test_an_end_in_suspension_is_an_end() -> None:
    made = Node(resume_timeout=0.01)
    made.node.detach(made.attach(), BROKEN, will_return=True)
    error: StreamError = TunnelReplaced("a newer tunnel took over")
    made.open()
    made.node.close(error)
    assert made.handler.errors == [error]
    with pytest.raises(TunnelReplaced):
        made.open()
