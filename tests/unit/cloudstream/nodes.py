"""Connected nodes without a network."""

from collections.abc import Callable

from cloudstream.node_session import NodeSession
from streamkit.errors import StreamError
from streamkit.session.v1_cloud import V1CloudSession


class FakeTunnel:
    """Remembers why it was closed."""

    def __init__(self) -> None:
        self.closed: list[StreamError] = []

    def close(self, error: StreamError) -> None:
        self.closed.append(error)


def connected(
    name: str,
    address: str = "10.0.0.1",
    *,
    tunnel: FakeTunnel | None = None,
    ended: Callable[[NodeSession], None] = lambda node: None,
) -> NodeSession:
    """A node's session over a tunnel, speaking v1."""
    session = V1CloudSession(buffer_limit=1 << 20)
    node = NodeSession(name, session, resume_timeout=30, ended=ended)
    node.attach(tunnel or FakeTunnel(), address)
    return node
