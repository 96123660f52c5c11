"""A link over which two of our own sides speak v1: what offers v2 is taken out of the handshake.

It ends TLS on both legs, towards the edge as the cloud and towards the cloud as the edge.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

from streamkit.pki.contexts import tunnel_client_context, tunnel_server_context
from tests.support.cloud import NODE, tls_files

_OFFER = re.compile(rb"\r\nSec-WebSocket-Protocol:[^\r]*", re.IGNORECASE)
_PIECE = 1 << 18


@contextlib.asynccontextmanager
async def v1_link_to(port: int, pki: Path) -> AsyncIterator[int]:
    """The port to connect to, for the length of the block; ``pki`` holds the keys of both sides."""
    inbound = tunnel_server_context(tls_files(pki, "tunnel"))
    outbound = tunnel_client_context(tls_files(pki, f"edge-{NODE}"))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port, ssl=outbound)
        except OSError:
            writer.transport.abort()
            return
        try:
            back.write(_OFFER.sub(b"", await reader.readuntil(b"\r\n\r\n")))
            pumps = [
                asyncio.create_task(_pump(reader, back)),
                asyncio.create_task(_pump(there, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            back.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=inbound)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
