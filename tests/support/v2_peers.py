"""Ends of a v2 tunnel that say what the test wants, whether it is allowed or not."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from edgestream.config import Backoff
from edgestream.connector import Connector
from edgestream.service import EdgeSessions, serve_cloud
from edgestream.serving import ChannelServer
from edgestream.tunnel import TunnelOptions
from streamkit.pki.contexts import tunnel_client_context, tunnel_server_context
from streamkit.pki.issue import issue_all
from streamkit.wire.exchange import RequestHead
from streamkit.wire.message import decode_message, encode_message
from streamkit.wire.v2_message import (
    Hello,
    V2Type,
    decode_hello,
    encode_hello,
    encode_open,
)
from tests.support.cloud import NODE, Cloud, tls_files
from tests.support.edge import ScriptedKubelet, Serve
from tests.support.frames import BINARY, CLOSE, PING, PONG, Frame, frame, read_frame
from tests.support.websocket_server import RawServer, raw_server

DEADLINE = 10.0

Sent = tuple[int, int, bytes]


class RawPeer:
    """One end of a tunnel, past the WebSocket handshake. Pings are answered."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: dict[str, str],
        *,
        masks: bool,
    ) -> None:
        self.headers = headers
        """The handshake's, as the other end sent them; by lower-case name."""
        self.writer = writer
        self._reader = reader
        self._masks = masks

    def send_message(self, payload: bytes) -> None:
        """Send bytes that need not be a message, in one binary frame."""
        self.send_frame(BINARY, payload)

    def send(self, channel_id: int, kind: int, data: bytes = b"") -> None:
        """Send one message."""
        self.send_message(encode_message(channel_id, kind, data))

    def send_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send one frame."""
        self.writer.write(frame(opcode, payload, fin=fin, masked=self._masks))

    async def receive(self) -> Sent:
        """The next message."""
        async with asyncio.timeout(DEADLINE):
            while (received := await read_frame(self._reader)).opcode != BINARY:
                assert received.opcode != CLOSE, received.close_reason
                if received.opcode == PING:
                    self.send_frame(PONG, received.payload)
        message = decode_message(received.payload)
        return message.channel_id, message.type, bytes(message.data)

    async def next_frame(self) -> Frame:
        """The next frame, whatever it is; nothing is answered."""
        async with asyncio.timeout(DEADLINE):
            return await read_frame(self._reader)

    async def closed(self) -> tuple[int, str]:
        """Read on to the close frame, and the connection's end: code and reason."""
        async with asyncio.timeout(DEADLINE):
            while (received := await read_frame(self._reader)).opcode != CLOSE:
                pass
            self.send_frame(CLOSE, received.payload)
            if not self._masks:
                # The server closes the connection first (RFC 6455 §7.1.1).
                self.writer.close()
            with contextlib.suppress(OSError):
                await self._reader.read()
        return received.close_code, received.close_reason

    def leave(self) -> None:
        """End without a word."""
        self.writer.transport.abort()


class RawEdge(RawPeer):
    """An edge's end."""

    async def greet(self, *, session: str = "", window: int = 1 << 20) -> Hello:
        """Say hello, and read the cloud's."""
        self.send_message(encode_hello(Hello(session, window, 30)))
        channel_id, kind, data = await self.receive()
        assert (channel_id, kind) == (0, V2Type.HELLO)
        return decode_hello(data)


@contextlib.asynccontextmanager
async def raw_edge(
    cloud: Cloud, *, node: str = NODE, token: str = "", small_buffers: bool = False
) -> AsyncIterator[RawEdge]:
    """A tunnel to the cloud that has not been greeted yet."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if small_buffers:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    async with asyncio.timeout(DEADLINE):
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", cloud.tunnel_port))
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=cloud.client_context(f"edge-{node}"), server_hostname="127.0.0.1"
        )
        lines = [
            "GET /v1/kubeedge/connect HTTP/1.1",
            "Host: x",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: v2.edgestream",
            f"SessionHostNameOverride: {node}",
            "SessionInternalIP: 127.0.0.1",
            *([f"EdgeStream-Session: {token}"] if token else []),
        ]
        writer.write("\r\n".join((*lines, "", "")).encode("latin-1"))
        first, *answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 101 ")
    headers = dict(line.lower().split(": ", 1) for line in answer if line)
    edge = RawEdge(reader, writer, headers, masks=True)
    try:
        yield edge
    finally:
        edge.leave()


class RawCloudTunnel(RawPeer):
    """A cloud's end of one edge's tunnel."""

    async def greet(self, *, session: str = "s1", window: int = 1 << 20) -> Hello:
        """Read the edge's hello, and say the cloud's."""
        channel_id, kind, data = await self.receive()
        assert (channel_id, kind) == (0, V2Type.HELLO)
        self.send_message(encode_hello(Hello(session, window, 30)))
        return decode_hello(data)

    async def open(self, channel_id: int, request: RequestHead) -> None:
        """Ask for something, and wait for the answer's head."""
        self.send_message(encode_open(channel_id, request))
        while (await self.receive())[:2] != (channel_id, V2Type.HEAD):
            pass


class RawCloud:
    """A tunnel port that speaks v2."""

    def __init__(self, server: RawServer, pki: Path) -> None:
        self._server = server
        self._pki = pki

    async def accept(self) -> RawCloudTunnel:
        """The next tunnel, not greeted yet."""
        async with asyncio.timeout(DEADLINE):
            raw = await self._server.accept()
        return RawCloudTunnel(raw.reader, raw.writer, raw.headers, masks=False)

    @contextlib.asynccontextmanager
    async def edge(
        self, serve: Serve, *, handshake: float = 5, heartbeat: float = 5
    ) -> AsyncIterator[ScriptedKubelet]:
        """A real edge that dials this cloud for the length of the block."""
        kubelet = ScriptedKubelet(serve)
        server = ChannelServer(kubelet, max_channels=1000)
        options = TunnelOptions(
            server=f"127.0.0.1:{self._server.port}",
            server_name="",
            node_name=NODE,
            node_ip="10.0.0.1",
            handshake=handshake,
            heartbeat=heartbeat,
            silence=15,
            write=15,
            close=0.2,
            max_message=2 << 20,
        )
        connector = Connector(
            options,
            tunnel_client_context(tls_files(self._pki, f"edge-{NODE}")),
            EdgeSessions(server, buffer_limit=4 << 20, resume_timeout=30),
            Backoff(initial=0.01, maximum=0.02),
            resume_timeout=30,
        )
        serving = asyncio.create_task(serve_cloud(connector, server))
        try:
            yield kubelet
        finally:
            serving.cancel()
            await asyncio.wait((serving,), timeout=10)


@contextlib.asynccontextmanager
async def raw_cloud(pki: Path) -> AsyncIterator[RawCloud]:
    """A cloud on a free port for the length of the block."""
    issue_all(pki, nodes=(NODE,))
    context = tunnel_server_context(tls_files(pki, "tunnel"))
    async with raw_server(context=context, subprotocol=b"v2.edgestream") as server:
        yield RawCloud(server, pki)
