"""A WebSocket server whose frames a test writes and reads byte by byte."""

import asyncio
import contextlib
import socket
import ssl
import struct
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha1

from tests.support.frames import Frame, read_frame

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


class RawWebSocket:
    """The server's end of one connection, past the handshake."""

    def __init__(
        self,
        path: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.path = path
        self.headers = headers
        """By lower-case name."""
        self.reader = reader
        self.writer = writer
        self._socket = writer.get_extra_info("socket")

    def send(self, data: bytes) -> None:
        """Send bytes: frames, or what is none."""
        self.writer.write(data)

    async def receive(self) -> Frame:
        """The next frame. Raises IncompleteReadError or ConnectionError at the end."""
        return await read_frame(self.reader)

    def abort(self) -> None:
        """Reset the connection."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class RawServer:
    """Answers upgrades, or refuses them, and hands out the connections."""

    def __init__(self, refusal: bytes, subprotocol: bytes) -> None:
        self.port = 0
        self.subprotocol = subprotocol
        """The one to choose; empty for none."""
        self.refusal = refusal
        """Status and phrase to refuse with; empty to accept."""
        self._connections: asyncio.Queue[RawWebSocket] = asyncio.Queue()
        self._open: set[RawWebSocket] = set()

    async def accept(self) -> RawWebSocket:
        """The next connection that has been upgraded."""
        return await self._connections.get()

    @property
    def waiting(self) -> int:
        """Connections that nobody has accepted yet."""
        return self._connections.qsize()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if self.refusal:
            body = b"not you\n"
            head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (self.refusal, len(body))
            writer.write(head + body)
            writer.close()
            return
        accept = b64encode(sha1(headers["sec-websocket-key"].encode() + _GUID).digest())
        chosen = b"Sec-WebSocket-Protocol: %s\r\n" % self.subprotocol if self.subprotocol else b""
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"%sSec-WebSocket-Accept: %s\r\n\r\n" % (chosen, accept)
        )
        raw = RawWebSocket(first.split(" ")[1], headers, reader, writer)
        self._open.add(raw)
        self._connections.put_nowait(raw)
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._open.discard(raw)

    def close(self) -> None:
        """Reset whatever is open."""
        for raw in tuple(self._open):
            raw.abort()


@contextlib.asynccontextmanager
async def raw_server(
    *, refusal: bytes = b"", context: ssl.SSLContext | None = None, subprotocol: bytes = b""
) -> AsyncIterator[RawServer]:
    """A server on a free port for the length of the block."""
    raw = RawServer(refusal, subprotocol)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=context)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        raw.close()
