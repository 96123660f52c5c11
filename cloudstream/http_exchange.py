"""The HTTP/1.1 of one connection of an API server, without I/O: requests in turn, answers to them.

h11 reads the heads: it hands over the bytes that came with a head, so that none is lost when a
connection is upgraded.
"""

from email.utils import formatdate

import h11

from cloudstream.replicas.messages import NOT_HERE_HEADER
from streamkit.errors import LocalProtocolError
from streamkit.http.answer import LAST_CHUNK, encode_chunk, text_headers
from streamkit.http.headers import end_to_end
from streamkit.wire.exchange import (
    Headers,
    RequestHead,
    ResponseHead,
    header_values,
    without_headers,
)

MAX_REQUEST_BODY = 64 * 1024
"""Bytes. It is held here, since a request may have to be put to more than one edge."""

_CONTINUE = h11.InformationalResponse(status_code=100, headers=[])


class RequestRefused(Exception):
    """What came can't be served. Its text says why; ``status`` is what HTTP calls that."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class NoMoreRequests(Exception):
    """The client has ended its side of the connection."""


class HttpExchange:
    """Turns received bytes into requests, and each answer into bytes to send."""

    def __init__(self, *, max_head_bytes: int) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head_bytes)
        self._request: RequestHead | None = None
        self._body = bytearray()
        self._has_body = True
        self._is_chunked = False

    # -- requests ------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what has come."""
        self._http.receive_data(data)

    @property
    def unread(self) -> bytes:
        """What has come behind the current request."""
        return self._http.trailing_data[0]

    def next_request(self) -> tuple[RequestHead, bytes] | None:
        """The next request and its body; None until more has come.

        Raises RequestRefused or NoMoreRequests, after which there is no next one.
        """
        try:
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Request):
                    self._request = _request_head(event)
                    self._body.clear()
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > MAX_REQUEST_BODY:
                        raise RequestRefused(413, "the request's body is too large")
                elif isinstance(event, h11.EndOfMessage) and self._request:
                    return _received(self._request, len(self._body)), bytes(self._body)
                else:
                    raise NoMoreRequests
        except h11.RemoteProtocolError as error:
            sentence = f"no usable HTTP request: {error}"
            raise RequestRefused(error.error_status_hint, sentence) from error
        return None

    def go_ahead(self) -> bytes:
        """The interim answer that the client waits for before it sends a body; else nothing."""
        if not self._http.they_are_waiting_for_100_continue:
            return b""
        return self._http.send(_CONTINUE) or b""

    def begin_anew(self) -> bool:
        """Make ready for the next request. False: the connection is good for no other one."""
        if (self._http.our_state, self._http.their_state) != (h11.DONE, h11.DONE):
            return False
        self._http.start_next_cycle()
        self._request = None
        return True

    # -- answers -------------------------------------------------------------------------------

    @property
    def is_answerable(self) -> bool:
        """Whether the answer has yet to begin."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def head(self, head: ResponseHead, more: Headers = ()) -> bytes:
        """An answer's head: its own end-to-end headers, and ``more``."""
        # An edge does not speak for a replica.
        headers = without_headers(end_to_end(head.headers), (NOT_HERE_HEADER.lower(),)) + more
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
        return data

    def body(self, data: bytes | memoryview) -> bytes | memoryview:
        """A piece of the answer's body; nothing where the answer has none.

        Raises LocalProtocolError for more bytes than the head announced.
        """
        if not self._has_body:
            return b""
        if self._is_chunked:
            return encode_chunk(data)
        try:
            return self._http.send(h11.Data(data=bytes(data))) or b""
        except h11.LocalProtocolError as error:
            raise LocalProtocolError("an answer is longer than announced") from error

    def end(self) -> bytes:
        """The answer's end. Raises LocalProtocolError for fewer bytes than the head announced."""
        try:
            closing = self._http.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise LocalProtocolError("an answer is shorter than announced") from error
        return LAST_CHUNK if self._is_chunked else closing


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
