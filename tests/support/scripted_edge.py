"""``python -m tests.support.scripted_edge SERVER NODE NODE-IP PKI``: an edge node as a process.

Its kubelet answers every request with the node's name and what was asked; an upgraded stream is an
echo.
"""

import asyncio
import sys
from pathlib import Path

from edgestream.config import Backoff
from edgestream.connector import Connector
from edgestream.kubelet.exchange import Exchange
from edgestream.service import EdgeSessions
from edgestream.serving import ChannelServer
from edgestream.tunnel import TunnelOptions
from streamkit.pki.contexts import tunnel_client_context
from streamkit.wire.exchange import ResponseHead, header_values
from tests.support.cloud import tls_files


class Kubelet:
    """Answers with what it sees."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def serve(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.is_upgrade:
            upgrade = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
            await exchange.send_head(ResponseHead(101, upgrade))
            while data := await exchange.read():
                await exchange.write(data)
            return
        secrets = header_values(request.headers, "authorization")
        await exchange.send_head(ResponseHead(200, (("Content-Type", "text/plain"),)))
        await exchange.write(f"{self._node} {request.method} {request.target}\n".encode())
        await exchange.write(f"authorization: {secrets}\n".encode() if secrets else b"")

    async def close(self) -> None:
        pass


async def main(server: str, node: str, node_ip: str, pki: str) -> None:
    options = TunnelOptions(
        server=server,
        server_name="",
        node_name=node,
        node_ip=node_ip,
        handshake=10,
        heartbeat=5,
        silence=15,
        write=15,
        close=5,
        max_message=2 << 20,
    )
    channels = ChannelServer(Kubelet(node), max_channels=100)
    connector = Connector(
        options,
        tunnel_client_context(tls_files(Path(pki), f"edge-{node}")),
        EdgeSessions(channels, buffer_limit=4 << 20, resume_timeout=30),
        Backoff(initial=0.1, maximum=0.2),
        resume_timeout=30,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(channels.run())
        group.create_task(connector.run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
