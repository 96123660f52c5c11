"""The same answers without a tunnel: over TLS behind the plain relay, else a peer's kubelet."""

import asyncio
import ssl
import sys
from pathlib import Path
from typing import cast

import uvloop

from bench.scripted import LINES

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
HIGH_WATER = 256 * 1024


class Origin(asyncio.Protocol):
    """One connection: a log of the size asked for, an echo, or a sink."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._left = 0
        self._mode = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:

        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        assert self._transport
        if self._mode == "echo":
            self._transport.write(data)
        elif self._mode == "sink":
            self._take(len(data))
        else:
            head, _, rest = data.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1]
            root, _, what = target.partition(b"?")[0].decode().split("/")[1:4]
            if root == "containerLogs":
                self._left = int(what)
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._left)
                self._mode = "log"
                self.resume_writing()
            else:
                self._mode = what
                self._left = int(target.partition(b"?")[2] or 0)
                self._transport.write(SWITCHED)
                if rest:
                    self.data_received(rest)

    def _take(self, size: int) -> None:
        assert self._transport
        self._left -= size
        if self._left <= 0:
            self._transport.write(b"done")

    def resume_writing(self) -> None:
        if self._mode != "log" or self._transport is None:
            return
        while self._left > 0 and self._transport.get_write_buffer_size() < HIGH_WATER:
            self._transport.write(LINES[: self._left])
            self._left -= len(LINES)
        if self._left <= 0:
            self._mode = ""


async def serve(port: int, pki: Path | None = None) -> None:
    """Serve until cancelled, over TLS if there are certificates."""
    context = None
    if pki:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "stream.crt", pki / "stream.key")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Origin, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), *map(Path, sys.argv[2:3])))
