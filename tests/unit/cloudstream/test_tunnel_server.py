"""Which session an edge gets, without a network."""

from collections.abc import Mapping
from typing import cast

import pytest

from cloudstream.config import CloudDeadlines, CloudLimits
from cloudstream.node_session import NodeSession
from cloudstream.registry import Registry
from cloudstream.tunnel_server import TunnelServer
from cloudstream.tunnel_socket import EdgeTunnel, Handshake
from streamkit.errors import TunnelClosed, TunnelReplaced
from streamkit.session.session import CloudSession
from streamkit.session.v1_cloud import V1CloudSession
from streamkit.session.v2 import V2CloudSession
from streamkit.wire.v2_message import Hello, encode_hello
from tests.unit.cloudstream.nodes import FakeTunnel

V2 = ("v2.edgestream",)
CERTIFICATE: Mapping[str, object] = {
    "subject": ((("organizationName", "system:nodes"),), (("commonName", "system:node:edge-1"),))
}


class FakeEdgeTunnel(FakeTunnel):
    was_closed = False
    traffic = (0, 0)


class Cloud:
    """A tunnel server and what it has registered."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.server = TunnelServer(self.registry, CloudDeadlines(), CloudLimits())

    @property
    def node(self) -> NodeSession:
        return self.registry.by_name("edge-1")

    def handshake(self, token: str = "", subprotocols: tuple[str, ...] = V2) -> "Visit":
        headers = {"SessionHostNameOverride": "edge-1", "SessionInternalIP": "10.0.0.1"}
        if token:
            headers["EdgeStream-Session"] = token
        return Visit(
            self,
            Handshake("/v1/kubeedge/connect", headers, subprotocols, CERTIFICATE, "192.0.2.1"),
        )


class Visit:
    """One tunnel of an edge: admitted when it is made, open when ``opened``."""

    def __init__(self, cloud: Cloud, handshake: Handshake) -> None:
        self._admission = cloud.server._admit(handshake)
        self.tunnel = FakeEdgeTunnel()

    def opened(self) -> CloudSession:
        session = self._admission.opened(cast(EdgeTunnel, self.tunnel))
        session.attach()
        if isinstance(session, V2CloudSession):
            session.message_received(encode_hello(Hello(session.token, 1000, 30)))
        return session

    def closed(self, *, will_return: bool) -> None:
        error = TunnelClosed("the edge's connection broke")
        self._admission.closed(cast(EdgeTunnel, self.tunnel), error, will_return)


def token_of(session: CloudSession) -> str:
    assert isinstance(session, V2CloudSession)
    return session.token


async def test_an_edge_that_comes_back_gets_its_session() -> None:
    cloud = Cloud()
    first = cloud.handshake()
    session = first.opened()
    first.closed(will_return=True)
    assert cloud.handshake(token_of(session)).opened() is session
    assert cloud.node.session is session
    assert len(cloud.registry) == 1


async def test_it_gets_it_while_the_lost_tunnel_is_still_believed_in() -> None:
    cloud = Cloud()
    first = cloud.handshake()
    session = first.opened()
    second = cloud.handshake(token_of(session))
    assert second.opened() is session
    assert [type(error) for error in first.tunnel.closed] == [TunnelReplaced]
    # The old one's end comes late.
    first.closed(will_return=False)
    assert cloud.node.session is session
    assert not cloud.node.is_suspended


async def test_a_session_that_ends_between_the_handshake_and_the_opening() -> None:
    cloud = Cloud()
    first = cloud.handshake()
    session = first.opened()
    first.closed(will_return=True)
    second = cloud.handshake(token_of(session))
    cloud.node.close(TunnelClosed("it did not come back"))
    assert len(cloud.registry) == 0
    opened = second.opened()
    assert opened is not session
    assert cloud.node.session is opened


async def test_two_handshakes_that_are_open_in_the_other_order() -> None:
    cloud = Cloud()
    one, other = cloud.handshake(), cloud.handshake()
    newest = other.opened()
    newer = one.opened()
    assert cloud.node.session is newer
    assert [type(error) for error in other.tunnel.closed] == [TunnelReplaced]
    assert one.tunnel.closed == []
    other.closed(will_return=True)
    assert cloud.node.session is newer is not newest


@pytest.mark.parametrize("token", ["", "caf\udce9", "0" * 32])
async def test_a_name_that_is_no_sessions_gets_a_new_one(token: str) -> None:
    cloud = Cloud()
    session = cloud.handshake().opened()
    assert cloud.handshake(token).opened() is not session


async def test_an_edge_that_speaks_v1_now_gets_no_v2_session() -> None:
    cloud = Cloud()
    session = cloud.handshake().opened()
    stock = cloud.handshake(token_of(session), subprotocols=()).opened()
    assert isinstance(stock, V1CloudSession)
    assert cloud.node.session is stock


async def test_names_of_sessions_can_not_be_guessed() -> None:
    tokens = {token_of(Cloud().handshake().opened()) for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {32}
