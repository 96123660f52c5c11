"""One connection of an API server: HTTP/1.1 requests in turn, or one upgraded stream.

h11 reads the heads: it hands over the bytes that came with a head, so that none is lost when a
connection is upgraded.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from email.utils import formatdate
from typing import Any

import h11

from cloudstream.answers import bad_request, error_answer, wants_upgrade
from cloudstream.config import CloudDeadlines
from cloudstream.frames import ClientClose
from cloudstream.kubelet_path import Subject, subject_of
from cloudstream.relay import Relay
from cloudstream.replicas.messages import LEAVING, NOT_HERE_HEADER, NodeNotHere
from cloudstream.router import dialled_address
from streamkit.errors import BadRequest, LocalProtocolError, StreamError
from streamkit.http.answer import LAST_CHUNK, encode_chunk, encode_head, text_headers
from streamkit.http.headers import end_to_end
from streamkit.session.reading import Reading
from streamkit.wire.exchange import (
    Headers,
    RequestHead,
    ResponseHead,
    header_values,
    without_headers,
)

log = logging.getLogger(__name__)

HIGH_WATER = 256 * 1024
MAX_REQUEST_BODY = 64 * 1024
"""Bytes. It is held here, since a request may have to be put to more than one edge."""

_CONTINUE = h11.InformationalResponse(status_code=100, headers=[])

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
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head_bytes)
        self._transport: Any = None
        self._reading: Reading | None = None
        self._relay: Relay | None = None
        self._task: asyncio.Task[None] | None = None
        self._request: RequestHead | None = None
        self._body = bytearray()
        self._has_body = True
        self._is_chunked = False
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
        self._http.receive_data(data)
        if self._task is None:
            self._read_request()
        elif len(self._http.trailing_data[0]) > HIGH_WATER:
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
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return
                if isinstance(event, h11.Request):
                    self._request = _request_head(event)
                    self._body.clear()
                    if self._http.they_are_waiting_for_100_continue:
                        self._write(self._http.send(_CONTINUE) or b"")
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > MAX_REQUEST_BODY:
                        self._refuse(413, "the request's body is too large")
                        return
                elif isinstance(event, h11.EndOfMessage) and self._request:
                    self._stop_timer()
                    request = _received(self._request, len(self._body))
                    self._task = self._spawn(self._answer(request, bytes(self._body)), "request")
                    return
                else:
                    self.close()
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, f"no usable HTTP request: {error}")
        except LocalProtocolError:
            # The service shuts down.
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
        states = (self._http.our_state, self._http.their_state)
        if self._is_leaving or states != (h11.DONE, h11.DONE):
            self.finish()
            return
        self._http.start_next_cycle()
        self._request = None
        self.resume_reading()
        self._start_timer(self._deadlines.keep_alive, self._close_if_idle)
        self._read_request()

    def _refuse(self, status: int, sentence: str) -> None:
        log.warning("refused a request from %s: %s", self.peer, sentence)
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
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
        # An edge does not speak for a replica.
        headers = without_headers(end_to_end(head.headers), (NOT_HERE_HEADER.lower(),)) + more
        if self._is_leaving:
            headers += (("Connection", "close"),)
        if not header_values(headers, "date"):
            headers += (("Date", formatdate(usegmt=True)),)
        response = h11.Response(
            status_code=head.status,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            reason=head.phrase.encode("latin-1", errors="replace"),
        )
        data = self._http.send(response) or b""
        self._has_body = self._request is None or self._request.method != "HEAD"
        self._is_chunked = self._has_body and b"\r\ntransfer-encoding: chunked\r\n" in data.lower()
        self._write(data)

    def send_body(self, data: bytes | memoryview) -> None:
        if not self._has_body:
            return
        if self._is_chunked:
            self._write(encode_chunk(data))
            return
        try:
            framed = self._http.send(h11.Data(data=bytes(data)))
        except h11.LocalProtocolError:
            # More bytes than announced: the client must not take the first ones for the whole.
            self.abort()
        else:
            self._write(framed or b"")

    def send_end(self) -> None:
        try:
            closing = self._http.send(h11.EndOfMessage())
        except h11.LocalProtocolError:
            # Fewer bytes than announced: the client must not take it for the whole.
            self.abort()
            return
        self._write(LAST_CHUNK if self._is_chunked else closing or b"")

    def _write(self, data: bytes | memoryview) -> None:
        if not self._is_shut:
            self._transport.write(data)

    def switch_protocols(self, head: ResponseHead) -> None:
        self._write(encode_head(head, head.headers))
        self.resume_reading()
        early = self._http.trailing_data[0]
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


def _request_head(event: h11.Request) -> RequestHead:
    return RequestHead(
        event.method.decode("latin-1"), event.target.decode("latin-1"), text_headers(event)
    )


def _received(request: RequestHead, size: int) -> RequestHead:
    """The request once its body has come: that is as long as it is, and waits for nothing."""
    headers = without_headers(request.headers, ("expect",))
    if header_values(headers, "transfer-encoding"):
        headers = without_headers(headers, ("transfer-encoding", "content-length"))
        headers = (*headers, ("Content-Length", str(size)))
    return RequestHead(request.method, request.target, headers)
