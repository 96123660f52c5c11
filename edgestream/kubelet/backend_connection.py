"""One HTTP/1.1 request to a server next door: the runtime's streaming server or a local kubelet.

The socket is used directly, without a transport between: a transport that fails to write also
throws away what it has not read, and the last output of a process would be lost whenever its stdin
is closed first.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncGenerator
from typing import Self

import h11

from edgestream.kubelet.go_errors import endpoint, reason
from edgestream.kubelet.tcp_peers import has_closed
from streamkit.errors import BadRequest, IncompleteAnswer, StreamingDialFailed
from streamkit.http.answer import text_headers
from streamkit.wire.exchange import RequestHead, ResponseHead

MAX_HEAD = 1 << 20
"""Bytes of a response head, as much as a kubelet takes for a request's."""

READ_SIZE = 1 << 16
"""Bytes of one read."""

MOST_AHEAD = 8 * 1024 * 1024
"""Bytes of output that are taken in where input is to go ahead of them: more than the kernel holds
for a server that sends (``tcp_wmem``, 4 MiB)."""


class BackendConnection:
    """A connection that carries one request and its answer.

    Use: ``dial``, ``send_head``, perhaps ``send_body`` and ``end_body``, ``response_head``, then
    either ``body`` or, after a 101, ``read``, ``write`` and ``write_eof``. The two directions are
    independent of each other; each is for one task at a time. Nothing is read ahead except by
    ``secure_output``, so a reader that pauses stops the server. Cancelling any wait is safe if
    ``close`` follows.

    Up to and including ``response_head`` a failure is a ``StreamingDialFailed`` whose sentence is
    what Go's HTTP client says; later ones are an ``IncompleteAnswer``.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self._socket = sock
        self._peer = peer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._drained = asyncio.Event()
        self._ahead: deque[bytes] = deque()  # what has been received and not been read
        self._ahead_error: OSError | None = None

    @classmethod
    async def dial(cls, address: str, port: int, *, deadline: float) -> Self:
        """Connect within ``deadline`` seconds."""
        peer = endpoint(address, port)
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        except OSError as error:
            raise StreamingDialFailed(f"dial tcp {peer}: {reason(error)}") from error
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(deadline):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except TimeoutError as error:
            sock.close()
            raise StreamingDialFailed(f"dial tcp {peer}: i/o timeout") from error
        except OSError as error:
            sock.close()
            raise StreamingDialFailed(f"dial tcp {peer}: connect: {reason(error)}") from error
        except BaseException:
            sock.close()
            raise
        return cls(sock, peer)

    async def send_head(self, request: RequestHead, *, has_body: bool = False) -> None:
        """Send method, target and headers; Host is this server. Raises BadRequest for bad ones.

        Without a body, which the headers have to announce, the request ends here.
        """
        headers = [("Host", self._peer), *request.headers]
        try:
            head = h11.Request(
                method=request.method.encode("latin-1"),
                target=request.target.encode("latin-1"),
                headers=[(name.encode("latin-1"), v.encode("latin-1")) for name, v in headers],
            )
            data = self._http.send(head)
            if not has_body:
                data = (data or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise BadRequest("the request's head is not valid HTTP") from error
        await self._send_request(data)

    async def send_body(self, data: bytes) -> None:
        """Send more of the request's body. Raises BadRequest if that is more than announced."""
        try:
            framed = self._http.send(h11.Data(data))
        except h11.LocalProtocolError as error:
            raise BadRequest("the request's body is longer than its head says") from error
        await self._send_request(framed)

    async def end_body(self) -> None:
        """The request is complete. Raises BadRequest if its head announced more."""
        try:
            framed = self._http.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            raise BadRequest("the request's body is shorter than its head says") from error
        await self._send_request(framed)

    async def response_head(self) -> ResponseHead:
        """Status and headers, every line as it came; interim answers are skipped."""
        data: bytes | None = None
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                broken = "unexpected EOF" if data == b"" else "malformed HTTP response"
                raise StreamingDialFailed(broken) from error
            if event is h11.NEED_DATA:
                try:
                    data = await self._receive()
                except OSError as error:
                    raise StreamingDialFailed(
                        f"read tcp {self._route()}: read: {reason(error)}"
                    ) from error
                self._http.receive_data(data)
            elif isinstance(event, h11.InformationalResponse | h11.Response) and (
                event.status_code >= 200 or event.status_code == 101
            ):
                if event.status_code == 101 and (behind := self._http.trailing_data[0]):
                    self._ahead.append(behind)
                phrase = event.reason.decode("latin-1")
                return ResponseHead(event.status_code, text_headers(event), phrase)
            elif not isinstance(event, h11.InformationalResponse):
                raise StreamingDialFailed("unexpected EOF")

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The answer's body without its framing, in pieces of 64 KiB at most, to its true end."""
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(await self._receive())
                    continue
            except (h11.RemoteProtocolError, OSError) as error:
                raise IncompleteAnswer(f"the answer of {self._peer} broke off") from error
            if not isinstance(event, h11.Data):
                return
            yield bytes(event.data)

    async def read(self) -> bytes:
        """The next raw bytes, 64 KiB at most; empty at the server's end."""
        if self._ahead:
            return self._ahead.popleft()
        try:
            if self._ahead_error:
                raise self._ahead_error
            return await self._receive()
        except OSError as error:
            raise IncompleteAnswer(
                f"the connection to {self._peer} broke: {reason(error)}"
            ) from error

    @property
    def is_drained(self) -> bool:
        """Whether a read waits: all that the server has said has been read."""
        return self._drained.is_set()

    async def drained(self) -> None:
        """Wait until a read waits, which may be over again when this returns."""
        await self._drained.wait()

    def secure_output(self) -> bool:
        """See to it that a write costs none of what has not been read; False where it would.

        It would where the server has closed already. One that closes before it has read what is
        written has its kernel drop all that has not come over: so that is taken in first.
        """
        if self.is_drained:
            return True
        self._read_ahead()
        return not has_closed(self._socket)

    async def write(self, data: bytes) -> None:
        """Send raw bytes; waits for as long as the server does not read."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except OSError as error:
            raise IncompleteAnswer(
                f"the connection to {self._peer} broke: {reason(error)}"
            ) from error

    def write_eof(self) -> None:
        """Half-close: the server reads the end, and may go on to write."""
        with contextlib.suppress(OSError):  # the server was faster; reading tells how it ended
            self._socket.shutdown(socket.SHUT_WR)

    def stop_reading(self) -> None:
        """Behind what has come already, reading finds the end."""
        with contextlib.suppress(OSError):  # it has ended by itself
            self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Drop the connection at once, both ways. Idempotent."""
        self._socket.close()

    def _read_ahead(self) -> None:
        size = sum(map(len, self._ahead))
        try:
            while size < MOST_AHEAD and (data := self._socket.recv(READ_SIZE)):
                self._ahead.append(data)
                size += len(data)
        except BlockingIOError:
            return
        except OSError as error:  # the kernel tells it once
            self._ahead_error = error

    async def _receive(self) -> bytes:
        self._drained.set()  # nobody sees it unless the next call has to wait
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, READ_SIZE)
        finally:
            self._drained.clear()

    async def _send_request(self, data: bytes | None) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data or b"")
        except OSError as error:
            raise StreamingDialFailed(
                f"error sending request: write tcp {self._route()}: write: {reason(error)}"
            ) from error

    def _route(self) -> str:
        """Both ends, as Go names a connection."""
        try:
            host, port = self._socket.getsockname()[:2]
        except OSError:
            return self._peer
        return f"{endpoint(host, port)}->{self._peer}"
