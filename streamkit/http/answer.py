"""Answers as raw HTTP/1.1 bytes, which is how v1's exec channels carry them.

``AnswerDecoder`` reads what a kubelet wrote, ``AnswerEncoder`` writes what a kubelet would. Both
let the bytes behind a 101 pass untouched.
"""

import h11

from streamkit.errors import IncompleteAnswer, RemoteProtocolError
from streamkit.http.headers import end_to_end
from streamkit.wire.exchange import (
    Headers,
    RequestHead,
    ResponseHead,
    header_values,
    without_headers,
)

MAX_HEAD = 1 << 20
_PROPOSAL = [("Host", "edge"), ("Connection", "upgrade"), ("Upgrade", "any")]


def text_headers(event: h11.Request | h11.InformationalResponse | h11.Response) -> Headers:
    """An event's header lines as text, in order, names spelled as received."""
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in event.headers.raw_items()
    )


class AnswerDecoder:
    """Bytes in, head and body out. ``is_complete`` once the answer's end has been seen."""

    def __init__(self, request: RequestHead) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        method = request.method if request.method == "HEAD" else "GET"
        headers = _PROPOSAL if request.is_upgrade else _PROPOSAL[:1]
        self._connection.send(h11.Request(method=method, target="/", headers=headers))
        self._connection.send(h11.EndOfMessage())
        self._is_raw = False
        self.is_complete = False

    def feed(self, data: bytes | memoryview) -> list[ResponseHead | bytes | memoryview]:
        """The head, once, then pieces of the body. Raises RemoteProtocolError for what is no HTTP.

        After a 101 every piece comes out as it went in.
        """
        if not len(data) or self.is_complete:
            return []
        if self._is_raw:
            return [data]
        return self._events(bytes(data))

    def feed_eof(self) -> list[ResponseHead | bytes | memoryview]:
        """The stream ended. Raises IncompleteAnswer where the answer was not complete by then."""
        if self.is_complete:
            return []
        if self._is_raw:
            self.is_complete = True
            return []
        try:
            events = self._events(b"")
        except RemoteProtocolError as error:
            raise IncompleteAnswer("the edge's answer broke off before its end") from error
        return events

    def _events(self, data: bytes) -> list[ResponseHead | bytes | memoryview]:
        found: list[ResponseHead | bytes | memoryview] = []
        try:
            self._connection.receive_data(data)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return found
                if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                    continue
                if isinstance(event, h11.InformationalResponse | h11.Response):
                    found.append(_head(event))
                    if event.status_code == 101:
                        self._is_raw = True
                        rest = self._connection.trailing_data[0]
                        return [*found, rest] if rest else found
                elif isinstance(event, h11.Data):
                    found.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self.is_complete = True
                    return found
                else:
                    raise RemoteProtocolError("the edge ended the request without an answer")
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError(f"the edge's answer is no HTTP: {error}") from error


def _head(event: h11.InformationalResponse | h11.Response) -> ResponseHead:
    return ResponseHead(event.status_code, text_headers(event), event.reason.decode("latin-1"))


class AnswerEncoder:
    """Head and body in, bytes out: chunked unless the head gives a Content-Length."""

    def __init__(self, request: RequestHead) -> None:
        self._has_body = request.method != "HEAD"
        self._is_chunked = False

    def head(self, head: ResponseHead) -> bytes:
        """The status line and headers, with the framing that fits."""
        if head.status == 101:
            return encode_head(head, head.headers)
        headers = list(without_headers(end_to_end(head.headers), ("content-length",)))
        length = header_values(head.headers, "content-length")
        if head.status in (204, 304):
            self._has_body = False
        elif length:
            headers.append(("Content-Length", length[0]))
        else:
            self._is_chunked = self._has_body
            headers.append(("Transfer-Encoding", "chunked"))
        headers.append(("Connection", "close"))
        return encode_head(head, tuple(headers))

    def data(self, data: bytes | memoryview) -> bytes | memoryview:
        """A piece of the body; nothing where the answer may have none."""
        if self._is_chunked:
            return encode_chunk(data)
        return data if self._has_body else b""

    def end(self) -> bytes:
        """What marks the body's end on the wire, if anything does."""
        return LAST_CHUNK if self._is_chunked else b""


LAST_CHUNK = b"0\r\n\r\n"


def encode_head(head: ResponseHead, headers: Headers) -> bytes:
    """The status line of a head with the header lines given."""
    lines = [f"HTTP/1.1 {head.status} {head.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")


def encode_chunk(data: bytes | memoryview) -> bytes:
    """One chunk (RFC 9112 §7.1); nothing for no bytes, which would mean the end."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n")) if len(data) else b""
