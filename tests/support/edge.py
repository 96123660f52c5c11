"""The edge agent's tunnel in this process, with a kubelet handler of the test's own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from edgestream.config import Backoff
from edgestream.connector import Connector
from edgestream.kubelet.exchange import Exchange
from edgestream.service import EdgeSessions, serve_cloud
from edgestream.serving import ChannelServer
from edgestream.tunnel import TunnelOptions
from streamkit.pki.contexts import tunnel_client_context
from streamkit.session.session import Session
from tests.support.cloud import NODE, Cloud
from tests.support.wait import until as until

HASTY = Backoff(initial=0.05, maximum=0.2)
Serve = Callable[[Exchange], Awaitable[None]]


class ScriptedKubelet:
    """A kubelet service that answers as the test says."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.live = 0
        self.session: Callable[[], Session | None] = lambda: None
        """The edge's session, if there is one."""

    async def serve(self, exchange: Exchange) -> None:
        self.live += 1
        try:
            await self._serve(exchange)
        finally:
            self.live -= 1

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def connected_edge(
    cloud: Cloud,
    serve: Serve,
    *,
    node: str = NODE,
    node_ip: str = "127.0.0.1",
    port: int = 0,
    address: tuple[str, int] | None = None,
    others: Sequence[Cloud] = (),
    resume_timeout: float = 30,
    heartbeat: float = 5,
    silence: float = 15,
    backoff: Backoff = HASTY,
) -> AsyncIterator[ScriptedKubelet]:
    """An edge node that is connected when the block begins, to the cloud or one of the others."""
    kubelet = ScriptedKubelet(serve)
    server = ChannelServer(kubelet, max_channels=1000)
    options = TunnelOptions(
        server="{}:{}".format(*(address or ("127.0.0.1", port or cloud.tunnel_port))),
        server_name="localhost" if address else "",
        node_name=node,
        node_ip=node_ip,
        handshake=10,
        heartbeat=heartbeat,
        silence=silence,
        write=15,
        close=5,
        max_message=2 << 20,
    )
    connector = Connector(
        options,
        tunnel_client_context(cloud.files(f"edge-{node}")),
        EdgeSessions(server, buffer_limit=4 << 20, resume_timeout=resume_timeout),
        backoff,
        resume_timeout=resume_timeout,
    )
    kubelet.session = lambda: connector._session
    serving = asyncio.create_task(serve_cloud(connector, server))
    try:
        clouds = (cloud, *others)
        await until(lambda: any(each.service.registry.find(node) for each in clouds))
        await until(lambda: bool((session := kubelet.session()) and session.is_greeted))
        yield kubelet
    finally:
        serving.cancel()
        await asyncio.wait((serving,), timeout=10)
