"""A kubelet's plain HTTP port, served by the edge agent's own answers from a container runtime.

``python -m tests.support.kubelet_server SOCKET PORT``: one request on each connection.
"""

import asyncio
import sys

from edgestream.kubelet.cri_backend import CriBackend, NodeFacts
from edgestream.kubelet.serve import answer
from streamkit.errors import StreamError
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead, header_values
from tests.support.cloud import NODE

READY = "serves"
_PIECE = 1 << 16


class HttpExchange:
    """An ``Exchange`` on a connection of its own."""

    def __init__(
        self, request: RequestHead, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._request = request
        self._reader = reader
        self._writer = writer
        self._is_chunked = self._is_ended = False

    @property
    def request(self) -> RequestHead:
        return self._request

    async def send_head(self, head: ResponseHead) -> None:
        headers: Headers = head.headers
        if head.status != 101 and not header_values(headers, "content-length"):
            self._is_chunked = True
            headers = (*headers, ("Transfer-Encoding", "chunked"))
        lines = [f"HTTP/1.1 {head.status} {head.phrase}", *(f"{n}: {v}" for n, v in headers)]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def write(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        await self._writer.drain()

    async def end(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            if self._is_chunked:
                self._writer.write(b"0\r\n\r\n")
            self._writer.write_eof()
            await self._writer.drain()

    async def read(self) -> bytes:
        return await self._reader.read(_PIECE)

    async def drain(self) -> None:
        """Wait until the client has closed; what it still sends is dropped."""
        while await self.read():
            pass


async def serve(socket: str, port: int) -> None:
    """Serve until cancelled."""
    backend = CriBackend(
        f"unix://{socket}", call_deadline=20, dial_deadline=5, node=NodeFacts(name=NODE)
    )

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            method, target, _ = head[0].split(" ")
            pairs = (line.split(": ", 1) for line in head[1:])
            request = RequestHead(method, target, tuple((name, value) for name, value in pairs))
            await _answer(backend, HttpExchange(request, reader, writer))
        except (OSError, asyncio.IncompleteReadError, StreamError):
            writer.transport.abort()
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    try:
        await server.serve_forever()
    finally:
        await backend.close()


async def _answer(backend: CriBackend, exchange: HttpExchange) -> None:
    """Answer one request; a plain one is given up when the client closes, as in Go's server."""
    serving = asyncio.create_task(answer(backend, exchange))
    waiting = {serving}
    if not exchange.request.is_upgrade:
        waiting.add(asyncio.create_task(exchange.drain()))
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if serving in done:
            serving.result()
            await exchange.end()
            if exchange.request.is_upgrade:
                await exchange.drain()  # closed with input unread, output would be lost
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
