"""One CONNECT of an API server, up to the answer; from then on it is a pipe.

The API server sends ``CONNECT host:port HTTP/1.1`` with a Host header, waits for a 200, and only
then speaks TLS. Of any other answer it shows its user the status line, so that has our sentence.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import h11

from cloudstream.egress.pipe import PipeEnd
from cloudstream.stream_connection import Spawn
from streamkit.errors import BadRequest, LocalProtocolError, StreamError

log = logging.getLogger(__name__)

_MAX_HEAD = 8 * 1024
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Connect = Callable[["EgressConnection", str], Coroutine[Any, Any, None]]
"""Leads the connection to a target, ``host:port``; raises StreamError where that can't be done."""


class EgressConnection(PipeEnd):
    """The API server's end of the pipe."""

    def __init__(
        self,
        connect: Connect,
        spawn: Spawn,
        connections: "set[EgressConnection]",
        *,
        head_deadline: float,
    ) -> None:
        super().__init__()
        self._connect = connect
        self._spawn = spawn
        self._connections = connections
        self._head_deadline = head_deadline
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.peer = ""
        """Who called, for the log."""
        self.peercert: Mapping[str, object] | None = None
        """The verified client certificate; None on a unix socket."""
        self.has_tls = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        address = transport.get_extra_info("peername")
        self.peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a unix socket"
        self.peercert = transport.get_extra_info("peercert")
        self.has_tls = transport.get_extra_info("ssl_object") is not None
        self._connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._head_deadline, self.abort)

    def data_received(self, data: bytes) -> None:
        if self.other:
            super().data_received(data)
        elif self._task is None:
            self._read_head(data)
        else:
            self._refuse(400, "bytes came before the answer to the CONNECT")

    def eof_received(self) -> bool:
        return super().eof_received() if self.other else False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.discard(self)
        self._stop_timer()
        if self._task and not self.other:
            self._task.cancel()

    def connected_to(self, far: PipeEnd) -> None:
        """Answer that the connection is there, and be a pipe."""
        if not self.is_over:
            self.transport.write(_CONNECTED)
        self.join(far)

    def break_off(self) -> None:
        """End both connections now. Idempotent."""
        self.abort()
        if self.other:
            self.other.abort()

    def _read_head(self, data: bytes) -> None:
        self._http.receive_data(data)
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, f"no usable HTTP request: {error}")
            return
        if event is h11.NEED_DATA:
            return
        if not isinstance(event, h11.Request) or event.method != b"CONNECT":
            self._refuse(405, "only CONNECT is served here")
        elif self._http.trailing_data[0]:
            self._refuse(400, "bytes came before the answer to the CONNECT")
        else:
            self._stop_timer()
            try:
                work = self._answer(event.target.decode("latin-1"))
                self._task = self._spawn(work, "egress")
            except LocalProtocolError:
                self.close()

    async def _answer(self, target: str) -> None:
        try:
            await self._connect(self, target)
        except StreamError as error:
            log.warning("CONNECT %s from %s: %s [%s]", target, self.peer, error, error.code)
            self._refuse(error.http_status or 502, str(error))
        except ValueError as error:
            self._refuse(BadRequest.http_status or 400, f"the target {error}")

    def _refuse(self, status: int, sentence: str) -> None:
        if not self.is_over and not self.other:
            # One line, and nothing that a status line can't hold.
            phrase = " ".join(sentence.split()).encode("ascii", errors="replace").decode()
            head = f"HTTP/1.1 {status} {phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            self.transport.write(head.encode())
            self.close()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
