"""What kube-apiserver does with an EgressSelectorConfiguration of HTTPConnect, to the byte.

It writes a CONNECT with the destination as the target and always the same Host header, reads the
head of the answer, and takes nothing but a 200 with no byte behind it.
"""

import asyncio
import ssl
from pathlib import Path

from tests.support.api_client import ApiClient

DEADLINE = 10.0


class ProxyError(Exception):
    """The proxy did not connect; the text is what kubectl's user gets to read."""


async def connect(
    proxy: Path | int, destination: str, *, outer: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the destination through a unix socket or a port. Raises ProxyError."""
    async with asyncio.timeout(DEADLINE):
        if isinstance(proxy, Path):
            reader, writer = await asyncio.open_unix_connection(proxy)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy, ssl=outer)
        writer.write(f"CONNECT {destination} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
    version, _, status = head.partition(b"\r\n")[0].decode().partition(" ")
    assert version == "HTTP/1.1"
    code = status.split(" ")[0]
    if code != "200":
        writer.transport.abort()
        raise ProxyError(f"proxy error from {proxy} while dialing {destination}, code {status}")
    buffered: bytearray = vars(reader)["_buffer"]
    assert not buffered, "bytes came before the client spoke"
    return reader, writer


async def kubelet_client(
    proxy: Path | int,
    destination: str,
    *,
    inner: ssl.SSLContext,
    outer: ssl.SSLContext | None = None,
) -> ApiClient:
    """A TLS connection to a kubelet through the proxy. Its name is not verified, as by default."""
    reader, writer = await connect(proxy, destination, outer=outer)
    async with asyncio.timeout(DEADLINE):
        await writer.start_tls(inner, server_hostname="")
    return ApiClient(reader, writer)
