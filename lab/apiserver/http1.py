"""One client connection: HTTP/1.1 heads and bodies by h11, and the way out into raw bytes."""

import asyncio
import ssl
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import h11

from streamkit.wire.exchange import Headers, RequestHead

READ_SIZE = 64 * 1024
HEAD_LIMIT = 1024 * 1024
BODY_LIMIT = 16 * 1024 * 1024
IDLE_TIMEOUT = 120.0
BODY_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0
"""Seconds for a keep-alive connection's next request, for its body, for closing."""


class ClientConnection:
    """What a client of the stand-in sent and is sent, one request after the other.

    Lost connections surface as OSError, a client that does not speak HTTP as
    ``h11.RemoteProtocolError``. Cancelling any call leaves the connection good for ``close`` only.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._presence: asyncio.Task[None] | None = None
        self._without_body = False
        self.answered = False
        """Whether the head of an answer to the present request is on its way."""

    @property
    def peer_host(self) -> str:
        """The client's address, as X-Forwarded-For tells it."""
        host: str = self._writer.get_extra_info("peername")[0]
        return host

    @property
    def certificate(self) -> Mapping[str, Any]:
        """The client certificate that TLS has verified, as ``ssl`` tells it; empty without one."""
        tls: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return tls.getpeercert() or {}

    async def next_request(self) -> tuple[RequestHead, bytes] | None:
        """The next request with its whole body; None once the client has no more.

        Raises TimeoutError if nothing comes for too long.
        """
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        if self._http.our_state is not h11.IDLE:
            return None
        self.answered = False
        async with asyncio.timeout(IDLE_TIMEOUT):
            event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        self._without_body = event.method == b"HEAD"
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in event.headers.raw_items()
        )
        head = RequestHead(event.method.decode(), event.target.decode("latin-1"), headers)
        async with asyncio.timeout(BODY_TIMEOUT):
            return head, await self._body()

    async def _body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > BODY_LIMIT:
                raise h11.RemoteProtocolError("request body too large", error_status_hint=413)
        return bytes(body)

    async def _next_event(self) -> h11.Event | None:
        while True:
            event = self._http.next_event()
            if event is h11.PAUSED:
                return None
            if isinstance(event, h11.Event):
                return event
            self._http.receive_data(await self._reader.read(READ_SIZE))

    async def while_present(self, work: Coroutine[None, None, None]) -> None:
        """Do the work, but cancel it as soon as the client has closed; raises what it raises.

        What the client sends in the meantime is kept for later.
        """
        working = asyncio.create_task(work)
        self._presence = asyncio.create_task(self._wait_gone())
        both = {working, self._presence}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._presence.cancelled():  # the work has taken over
                await working
            elif working.done():
                working.result()
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _wait_gone(self) -> None:
        while data := await self._reader.read(READ_SIZE):
            self._http.receive_data(data)

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the head of an answer; without Content-Length the body will be chunked."""
        self.answered = True
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send(h11.Response(status_code=status, headers=lines))

    async def send_data(self, data: bytes) -> None:
        """Send a piece of the body, if the request wants one; waits while the client is slow."""
        if data and not self._without_body:
            await self._send(h11.Data(data=data))

    async def finish(self) -> None:
        """End the body as complete."""
        await self._send(h11.EndOfMessage())

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        await self.start(status, (*headers, ("Content-Length", str(len(body)))))
        await self.send_data(body)
        await self.finish()

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            await self._writer.drain()

    async def take_over(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        """Leave HTTP: the raw streams, and the bytes that came after the head so far."""
        self.answered = True
        if self._presence:
            self._presence.cancel()
            await asyncio.wait({self._presence})
        return self._reader, self._writer, self._http.trailing_data[0]

    def abort(self) -> None:
        """Drop the connection in the middle of an answer, so that the client sees a failure."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Send what is left, then close. May be repeated."""
        self._writer.close()
