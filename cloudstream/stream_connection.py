"""One connection of an API server: HTTP/1.1 requests in turn, or one upgraded stream."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from cloudstream.answers import bad_request, error_answer, wants_upgrade
from cloudstream.config import CloudDeadlines
from cloudstream.frames import ClientClose
from cloudstream.http_exchange import HttpExchange, NoMoreRequests, RequestRefused
from cloudstream.kubelet_path import Subject, subject_of
from cloudstream.relay import Relay
from cloudstream.replicas.messages import LEAVING, NOT_HERE_HEADER, NodeNotHere
from cloudstream.router import dialled_address
from streamkit.errors import BadRequest, LocalProtocolError, StreamError
from streamkit.http.answer import encode_head
from streamkit.session.reading import Reading
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead, header_values

log = logging.getLogger(__name__)

HIGH_WATER = 256 * 1024

Serve = Callable[["StreamConnection", RequestHead, Subject, Relay], Awaitable[None]]
"""Answers one request through the relay; raises StreamError where that can't be done."""

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
"""Starts a request's task; raises LocalProtocolError where none is started any more."""


class StreamConnection(asyncio.Protocol):
    """The protocol of one accepted connection. It is the relay's ``Client`` as well."""

    def __init__(
        self,
        serve: Serve,
        spawn: Spawn,
        connections: "set[StreamConnection]",
        deadlines: CloudDeadlines,
        *,
        max_head_bytes: int,
        dialled: str = "",
        peer: str = "",
    ) -> None:
        self._serve = serve
        self._spawn = spawn
        self._connections = connections
        self._deadlines = deadlines
        self._http = HttpExchange(max_head_bytes=max_head_bytes)
        self._transport: Any = None
        self._reading: Reading | None = None
        self._relay: Relay | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._is_shut = False
        self._is_leaving = False
        self._client_close: ClientClose | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_writable = True
        self.peer = peer
        """Who called, for the log."""
        self.peercert: Mapping[str, object] | None = None
        """The verified client certificate, or None."""
        self.dialled = dialled
        """The address that the caller dialled, or the node's name where it asked for that."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is over."""

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._reading = Reading(self._transport)
        # Asked for now: a transport that has been closed can't tell any more.
        if not self.peer:
            address = transport.get_extra_info("peername")
            self.peer = f"{address[0]}:{address[1]}" if address else "unknown"
        self.peercert = transport.get_extra_info("peercert")
        if not self.dialled:
            self.dialled = dialled_address(transport.get_extra_info("socket"))
        self._connections.add(self)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._start_timer(self._deadlines.request_head)

    def data_received(self, data: bytes) -> None:
        if self._client_close:
            self._client_close.follow(data)
        if self._is_closing:
            self._shut_if_client_closed()
            return
        if self._relay and self._relay.is_raw:
            self._relay.client_data(data)
            return
        self._http.receive(data)
        if self._task is None:
            self._read_request()
        elif len(self._http.unread) > HIGH_WATER:
            self.pause_reading()

    def eof_received(self) -> bool:
        self._drop_request()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = self._is_shut = True
        self._connections.discard(self)
        self._stop_timer()
        self._drop_request()
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        if self._is_shut:
            return
        if self._is_closing:
            self._start_timer(self._deadlines.close)
        elif self._relay:
            self._relay.client_writable()

    # -- what the service asks of it -----------------------------------------------------------

    def leave_soon(self) -> None:
        """End the connection with the next answer."""
        self._is_leaving = True

    def leave(self) -> None:
        """End the connection as soon as what is in flight has been answered. Idempotent."""
        self._is_leaving = True
        if self._task is None and not self._is_closing:
            self.close()

    def close(self) -> None:
        """End the connection; what is in flight is cancelled. Idempotent."""
        self._is_closing = True
        self._drop_request()
        self._shut()

    # -- requests ------------------------------------------------------------------------------

    def _read_request(self) -> None:
        try:
            if received := self._http.next_request():
                self._stop_timer()
                self._task = self._spawn(self._answer(*received), "request")
            else:
                self._write(self._http.go_ahead())
        except RequestRefused as error:
            self._refuse(error.status, str(error))
        except (NoMoreRequests, LocalProtocolError):
            # The client is done, or the service shuts down.
            self.close()

    async def _answer(self, request: RequestHead, body: bytes) -> None:
        subject = subject_of(request)
        relay = self._relay = Relay(self, request, subject, body)
        started = time.monotonic()
        code = ""
        try:
            if request.is_upgrade and not wants_upgrade(request):
                raise BadRequest("only upgrades to SPDY/3.1 and WebSocket are served")
            if request.is_upgrade and body:
                raise BadRequest("a request for an upgrade has no body")
            await self._serve(self, request, subject, relay)
        except NodeNotHere as error:
            # The other replica knows what to do, and says so where nothing is left to do.
            more = ((NOT_HERE_HEADER, LEAVING if error.is_leaving else "true"),)
            self._send_answer(*error_answer(error, subject), more)
        except StreamError as error:
            code = error.code
            log.warning(
                "%s %s from %s: %s [%s]", request.method, request.path, self.peer, error, code
            )
            if not relay.is_answered:
                self._send_answer(*error_answer(error, subject))
        except Exception as error:
            log.exception("%s %s: internal error", request.method, request.path)
            if not relay.is_answered:
                fault = StreamError(f"internal error: {type(error).__name__}")
                self._send_answer(*error_answer(fault, subject))
        finally:
            relay.close()
            seconds = time.monotonic() - started
            outcome = f"{relay.status} {code}".rstrip()
            log.debug("%s %s: %s in %.3f s", request.method, request.path, outcome, seconds)
            self._task = None
        if not relay.is_raw and not self._is_closing:
            self._relay = None
            self._next_request()

    def _next_request(self) -> None:
        if self._is_leaving or not self._http.begin_anew():
            self.finish()
            return
        self.resume_reading()
        self._start_timer(self._deadlines.keep_alive, self._close_if_idle)
        self._read_request()

    def _refuse(self, status: int, sentence: str) -> None:
        log.warning("refused a request from %s: %s", self.peer, sentence)
        if self._http.is_answerable:
            head, body = bad_request(status, sentence)
            self._send_head(head, (("Connection", "close"),))
            self.send_body(body)
            self.send_end()
        self.finish()

    def _send_answer(self, head: ResponseHead, body: bytes, more: Headers = ()) -> None:
        if not self._is_closing:
            self._send_head(head, more)
            self.send_body(body)
            self.send_end()

    def _drop_request(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # -- the relay's client ----------------------------------------------------------------------

    def send_head(self, head: ResponseHead) -> None:
        self._send_head(head, ())

    def _send_head(self, head: ResponseHead, more: Headers) -> None:
        if self._is_leaving:
            more += (("Connection", "close"),)
        self._write(self._http.head(head, more))

    def send_body(self, data: bytes | memoryview) -> None:
        try:
            self._write(self._http.body(data))
        except LocalProtocolError:
            # The client must not take the first bytes for the whole.
            self.abort()

    def send_end(self) -> None:
        try:
            self._write(self._http.end())
        except LocalProtocolError:
            # The client must not take what it has for the whole.
            self.abort()

    def _write(self, data: bytes | memoryview) -> None:
        if not self._is_shut:
            self._transport.write(data)

    def switch_protocols(self, head: ResponseHead) -> None:
        self._write(encode_head(head, head.headers))
        self.resume_reading()
        early = self._http.unread
        if "websocket" in (value.lower() for value in header_values(head.headers, "upgrade")):
            self._client_close = ClientClose()
            self._client_close.follow(early)
        if early and self._relay:
            self._relay.client_data(early)

    def send_raw(self, data: bytes | memoryview) -> None:
        self._write(data)

    def finish(self) -> None:
        # Closing with unread bytes of the client (its pings) would reset the connection and cut
        # what is still on its way. So the client gets the time to close first; one that speaks
        # WebSocket leaves that to us once it has sent its Close frame.
        # The wait begins when all has been handed to the kernel, however slow the client reads.
        if self._is_closing:
            return
        self.resume_reading()
        self._is_closing = True
        self._transport.set_write_buffer_limits(high=0)
        if self._transport.get_write_buffer_size() == 0:
            self._start_timer(self._deadlines.close)
        self._shut_if_client_closed()

    def _shut_if_client_closed(self) -> None:
        if self._client_close and self._client_close.is_complete:
            self._shut()

    def abort(self) -> None:
        self._is_closing = True
        self._shut()

    def pause_reading(self) -> None:
        if self._reading and not self._is_closing:
            self._reading.pause()

    def resume_reading(self) -> None:
        if self._reading and not self._is_closing:
            self._reading.resume()

    def _shut(self) -> None:
        # Once only: asyncio's TLS transport forgets itself when it is closed a second time, and
        # whatever is asked of it then raises AttributeError.
        if not self._is_shut:
            self._is_shut = True
            self._transport.close()

    # -- timer -------------------------------------------------------------------------------------

    def _start_timer(self, seconds: float, expired: Callable[[], None] | None = None) -> None:
        self._stop_timer()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, expired or self._shut)

    def _close_if_idle(self) -> None:
        # A client that has yet to read its answer, such as a paused kubectl, is not idle.
        if self._transport.get_write_buffer_size():
            self._start_timer(self._deadlines.keep_alive, self._close_if_idle)
        else:
            self._shut()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
