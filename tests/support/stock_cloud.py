"""KubeEdge's CloudStream as it behaves on the wire towards an edge, its defects included.

It asks for a client certificate, knows no subprotocol, and sends what the test says. What would
upset the real one is recorded in ``violations``.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from edgestream.config import Backoff
from edgestream.connector import Connector
from edgestream.service import EdgeSessions, serve_cloud
from edgestream.serving import ChannelServer
from edgestream.tunnel import TunnelOptions
from streamkit.errors import MalformedMessage
from streamkit.pki.contexts import tunnel_client_context, tunnel_server_context
from streamkit.pki.issue import issue_all
from streamkit.wire.message import MessageType, decode_message, encode_message
from tests.support.cloud import NODE, tls_files
from tests.support.edge import ScriptedKubelet, Serve
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    frame,
    read_frame,
)
from tests.support.wait import until
from tests.support.websocket_server import RawServer, RawWebSocket, raw_server

LOGS, EXEC = MessageType.LOGS_CONNECT, MessageType.EXEC_CONNECT
METRICS, ATTACH = MessageType.METRIC_CONNECT, MessageType.ATTACH_CONNECT
DATA, REMOVE = MessageType.DATA, MessageType.REMOVE_CONNECT


def connect_json(channel_id: int, kind: int, path: str, **fields: Any) -> bytes:
    """What the real one says about a request."""
    url = {
        "Scheme": "http",
        "Opaque": "",
        "User": None,
        "Host": "127.0.0.1:10350",
        "Path": path,
        "RawQuery": fields.pop("query", ""),
        "RawPath": "",
        "ForceQuery": False,
        "OmitHost": False,
    }
    request: dict[str, Any] = {"MessID": channel_id, "url": url, "header": {"Accept": ["*/*"]}}
    if kind in (EXEC, ATTACH):
        request["method"] = "POST" if kind == EXEC else "GET"
        request["header"] |= {"Connection": ["Upgrade"], "Upgrade": ["SPDY/3.1"]}
    return json.dumps(request | fields).encode()


class StockTunnel:
    """The cloud's end of one edge's tunnel."""

    def __init__(self, raw: RawWebSocket) -> None:
        self.raw = raw
        self.violations: list[str] = []
        self.control: list[Frame] = []
        self.is_closed = False
        self.answers_pings = True
        self.reads = asyncio.Event()
        """Cleared, the cloud reads nothing."""
        self.reads.set()
        self._data: dict[int, bytearray] = {}
        self._removes: dict[int, int] = {}
        self._known: set[int] = set()
        self._fragments: list[bytes] = []

    # -- what tests do -------------------------------------------------------------------------

    def send(self, channel_id: int, kind: int, data: bytes = b"") -> None:
        """Send one message, as text in one frame."""
        self._known.add(channel_id)
        self.raw.send(frame(TEXT, encode_message(channel_id, kind, data), masked=False))

    def open(self, channel_id: int, kind: int, path: str, **fields: Any) -> None:
        """Open a channel."""
        self.send(channel_id, kind, connect_json(channel_id, kind, path, **fields))

    def data(self, channel_id: int) -> bytes:
        """All data of the channel so far."""
        return bytes(self._data.get(channel_id, b""))

    def removes(self, channel_id: int) -> int:
        """How many RemoveConnects have come for the channel."""
        return self._removes.get(channel_id, 0)

    async def whole(self, channel_id: int) -> bytes:
        """The channel's data up to its RemoveConnect."""
        await until(lambda: self.removes(channel_id) > 0)
        return self.data(channel_id)

    async def answers(self) -> None:
        """Wait until the edge has taken all that was sent: a channel that is refused tells."""
        self.send(1 << 40, EXEC, b"{")
        seen = self.removes(1 << 40)
        await until(lambda: self.removes(1 << 40) > seen)

    # -- the reading loop ------------------------------------------------------------------------

    async def run(self) -> None:
        """Take what the edge sends until the tunnel ends."""
        try:
            while True:
                await self.reads.wait()
                self._take(await read_frame(self.raw.reader))
        except (asyncio.IncompleteReadError, OSError):
            self.is_closed = True

    def _take(self, received: Frame) -> None:
        if not received.is_masked:
            self.violations.append("a frame without a mask")
        if received.opcode in (PING, PONG, CLOSE):
            self.control.append(received)
            if received.opcode == PING and self.answers_pings:
                self.raw.send(frame(PONG, received.payload, masked=False))
            elif received.opcode == CLOSE:
                self.raw.writer.close()
        elif received.opcode == BINARY:
            self.violations.append("a binary message")
        elif received.opcode in (TEXT, CONTINUATION):
            self._fragments.append(received.payload)
            if received.fin:
                payload = b"".join(self._fragments)
                self._fragments.clear()
                self._message(payload)

    def _message(self, payload: bytes) -> None:
        try:
            message = decode_message(payload)
        except MalformedMessage as error:
            self.violations.append(str(error))
            return
        channel_id = message.channel_id
        if channel_id not in self._known:
            self.violations.append(f"a message for channel {channel_id}, which nobody opened")
        if self.removes(channel_id) and channel_id != 1 << 40:
            self.violations.append(f"a message of type {message.type} behind RemoveConnect")
        if message.type == DATA:
            if len(message.data) > 1 << 20:
                self.violations.append("a message that is cut")
            self._data.setdefault(channel_id, bytearray()).extend(message.data)
        elif message.type == REMOVE and not message.data:
            self._removes[channel_id] = self.removes(channel_id) + 1
        else:
            self.violations.append(f"a message of type {message.type}")


class StockCloud:
    """The tunnel port of a stock cloud."""

    def __init__(self, server: RawServer, pki: Path) -> None:
        self.server = server
        self.pki = pki
        self.tunnels: list[StockTunnel] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def accept(self) -> StockTunnel:
        """The next tunnel."""
        async with asyncio.timeout(10):
            tunnel = StockTunnel(await self.server.accept())
        self.tunnels.append(tunnel)
        self._tasks.append(asyncio.create_task(tunnel.run()))
        return tunnel

    async def close(self) -> None:
        self.server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)


@contextlib.asynccontextmanager
async def stock_cloud(pki: Path) -> AsyncIterator[StockCloud]:
    """A stock cloud on a free port for the length of the block."""
    issue_all(pki, nodes=(NODE,))
    context: ssl.SSLContext = tunnel_server_context(tls_files(pki, "tunnel"))
    async with raw_server(context=context) as server:
        cloud = StockCloud(server, pki)
        try:
            yield cloud
        finally:
            await cloud.close()


@contextlib.asynccontextmanager
async def edge_of(
    cloud: StockCloud,
    serve: Serve,
    *,
    heartbeat: float = 5,
    silence: float = 15,
    buffer_limit: int = 4 << 20,
) -> AsyncIterator[tuple[StockTunnel, ScriptedKubelet]]:
    """Our edge, connected to the stock cloud when the block begins."""
    kubelet = ScriptedKubelet(serve)
    server = ChannelServer(kubelet, max_channels=1000)
    options = TunnelOptions(
        server=f"127.0.0.1:{cloud.server.port}",
        server_name="",
        node_name=NODE,
        node_ip="10.0.0.1",
        handshake=10,
        heartbeat=heartbeat,
        silence=silence,
        write=15,
        close=1,
        max_message=2 << 20,
    )
    connector = Connector(
        options,
        tunnel_client_context(tls_files(cloud.pki, f"edge-{NODE}")),
        EdgeSessions(server, buffer_limit=buffer_limit, resume_timeout=30),
        Backoff(initial=0.02, maximum=0.1),
        resume_timeout=30,
    )
    serving = asyncio.create_task(serve_cloud(connector, server))
    try:
        yield await cloud.accept(), kubelet
    finally:
        serving.cancel()
        await asyncio.wait((serving,), timeout=10)
