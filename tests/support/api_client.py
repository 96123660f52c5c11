"""An API server's connection to the stream port, as bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.cloud import Cloud

DEADLINE = 20.0


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``is_complete``: its body ended as its head said it would."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes
    is_complete: bool = True


class ApiClient:
    """One connection; plain requests in turn, or one upgraded stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.host = "10.0.0.1:10351"
        """What the Host header says."""

    def send(self, method: str, target: str, *lines: str) -> None:
        """Send a request's head."""
        head = (f"{method} {target} HTTP/1.1", f"Host: {self.host}", *lines, "", "")
        self.writer.write("\r\n".join(head).encode())

    async def get(self, target: str, *lines: str, method: str = "GET") -> Answer:
        """Ask, and read the whole answer."""
        self.send(method, target, *lines)
        return await self.answer(has_body=method != "HEAD")

    async def upgrade(self, target: str, *lines: str, early: bytes = b"") -> Answer:
        """Ask for SPDY with bytes right behind; the answer's body is read unless it is a 101."""
        self.send(
            "POST",
            target,
            "Content-Length: 0",
            "Connection: Upgrade",
            "Upgrade: SPDY/3.1",
            "X-Stream-Protocol-Version: v4.channel.k8s.io",
            *lines,
        )
        self.writer.write(early)
        return await self.answer()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read an answer's head."""
        async with asyncio.timeout(DEADLINE):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        return int(first.split()[1]), {name.lower(): value for name, value in headers.items()}

    async def answer(self, *, has_body: bool = True) -> Answer:
        """Read an answer. A connection that ends within its body leaves it incomplete."""
        status, headers = await self.head()
        body = bytearray()
        is_complete = True
        if has_body and status not in (101, 204, 304):
            try:
                async with asyncio.timeout(DEADLINE):
                    await self._read_body(headers, body)
            except (asyncio.IncompleteReadError, OSError) as error:
                body += getattr(error, "partial", b"")
                is_complete = False
        return Answer(status, headers, bytes(body), is_complete)

    async def receive(self, size: int) -> bytes:
        """That many bytes of an upgraded stream."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything up to the connection's end."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    def abort(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()

    async def _read_body(self, headers: dict[str, str], body: bytearray) -> None:
        if "content-length" in headers:
            body += await self.reader.readexactly(int(headers["content-length"]))
            return
        assert headers.get("transfer-encoding") == "chunked"
        while size := int((await self.reader.readuntil(b"\r\n")), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"


@contextlib.asynccontextmanager
async def api_client(
    cloud: Cloud,
    stem: str | None = "apiserver-client",
    *,
    address: tuple[str, int] | None = None,
) -> AsyncIterator[ApiClient]:
    """A connection for the length of the block, to the cloud's stream port or to that address."""
    client = ApiClient(*await cloud.connect(stem, address))
    try:
        yield client
    finally:
        client.abort()
