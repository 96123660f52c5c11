"""The HTTP/1.1 of one connection of an API server."""

import pytest

from cloudstream.http_exchange import (
    MAX_REQUEST_BODY,
    HttpExchange,
    NoMoreRequests,
    RequestRefused,
)
from cloudstream.replicas.messages import NOT_HERE_HEADER
from streamkit.errors import LocalProtocolError
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /run/a/b/c HTTP/1.1\r\nHost: a\r\n"
DATE = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")


def exchange(*received: bytes) -> HttpExchange:
    http = HttpExchange(max_head_bytes=4096)
    for data in received:
        http.receive(data)
    return http


def request_of(http: HttpExchange) -> tuple[RequestHead, bytes]:
    received = http.next_request()
    assert received
    return received


def test_a_request_may_come_byte_by_byte() -> None:
    http = exchange()
    for byte in GET[:-1]:
        http.receive(bytes([byte]))
        assert http.next_request() is None
    http.receive(GET[-1:])
    assert request_of(http) == (RequestHead("GET", "/healthz", (("Host", "a"),)), b"")


def test_requests_come_in_turn() -> None:
    http = exchange(GET, GET.replace(b"healthz", b"pods"))
    assert request_of(http)[0].path == "/healthz"
    assert http.unread.startswith(b"GET /pods ")
    assert not http.begin_anew()
    http.head(ResponseHead(200, (("Content-Length", "0"),)))
    http.end()
    assert http.begin_anew()
    assert request_of(http)[0].path == "/pods"


def test_a_chunked_body_becomes_one_of_a_known_length() -> None:
    http = exchange(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n")
    request, body = request_of(http)
    assert body == b"abc"
    assert header_values(request.headers, "transfer-encoding") == []
    assert header_values(request.headers, "content-length") == ["3"]


def test_a_client_that_waits_is_told_to_go_ahead() -> None:
    http = exchange(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert http.next_request() is None
    assert http.go_ahead().startswith(b"HTTP/1.1 100 ")
    assert http.go_ahead() == b""
    http.receive(b"abc")
    request, body = request_of(http)
    assert (header_values(request.headers, "expect"), body) == ([], b"abc")


def test_a_client_that_sends_its_body_at_once_is_told_nothing() -> None:
    http = exchange(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\na")
    assert http.next_request() is None
    assert http.go_ahead() == b""


@pytest.mark.parametrize("more", [0, 1])
def test_a_body_has_a_limit(more: int) -> None:
    size = MAX_REQUEST_BODY + more
    http = exchange(POST + b"Content-Length: %d\r\n\r\n" % size, bytes(size))
    if not more:
        assert len(request_of(http)[1]) == size
        return
    with pytest.raises(RequestRefused, match="body is too large") as refused:
        http.next_request()
    assert refused.value.status == 413
    assert http.is_answerable


@pytest.mark.parametrize(
    ("received", "status"),
    [(b"SSH-2.0-OpenSSH\r\n\r\n", 400), (b"GET /" + b"a" * 5000, 431)],
)
def test_what_is_no_request_is_refused(received: bytes, status: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        exchange(received).next_request()
    assert refused.value.status == status


def test_the_end_of_the_client_s_side_is_no_request() -> None:
    with pytest.raises(NoMoreRequests):
        exchange(b"").next_request()


def test_a_head_has_its_own_headers_and_ours() -> None:
    http = exchange(GET)
    request_of(http)
    headers = (("Content-Length", "2"), ("Keep-Alive", "5"), (NOT_HERE_HEADER, "true"), DATE)
    data = http.head(ResponseHead(200, headers), (("Connection", "close"),))
    assert data.decode().split("\r\n") == [
        "HTTP/1.1 200 OK", "Content-Length: 2", ": ".join(DATE), "Connection: close", "", "",
    ]  # fmt: skip


def test_an_answer_without_a_length_is_chunked() -> None:
    http = exchange(GET)
    request_of(http)
    assert b"\r\nTransfer-Encoding: chunked\r\n" in http.head(ResponseHead(200, (DATE,)))
    assert (http.body(b"abc"), http.body(memoryview(b"")), http.end()) == (
        b"3\r\nabc\r\n", b"", b"0\r\n\r\n",
    )  # fmt: skip
    assert http.begin_anew()


@pytest.mark.parametrize("headers", [(), (("Content-Length", "3"),)])
def test_the_answer_to_head_has_no_body(headers: tuple[tuple[str, str], ...]) -> None:
    http = exchange(GET.replace(b"GET", b"HEAD"))
    request_of(http)
    http.head(ResponseHead(200, headers))
    assert (http.body(b"abc"), http.end()) == (b"", b"")
    assert http.begin_anew()


def three_bytes_announced() -> HttpExchange:
    http = exchange(GET)
    request_of(http)
    http.head(ResponseHead(200, (("Content-Length", "3"),)))
    return http


def test_an_answer_is_no_longer_than_announced() -> None:
    http = three_bytes_announced()
    with pytest.raises(LocalProtocolError, match="longer than announced"):
        http.body(b"abcd")


def test_an_answer_is_no_shorter_than_announced() -> None:
    http = three_bytes_announced()
    assert http.body(b"ab") == b"ab"
    with pytest.raises(LocalProtocolError, match="shorter than announced"):
        http.end()
