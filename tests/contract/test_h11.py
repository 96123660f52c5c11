"""What both services rely on in h11."""

import h11
import pytest

UPGRADE = (
    b"POST /exec/ns/web/app HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4\r\n"
    b"X-Stream-Protocol-Version: v3\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
EARLY = b"\x80\x03\x00\x01HTTP/1.1 \r\n\r\n"


def client_of(*headers: tuple[str, str], method: str = "GET") -> h11.Connection:
    """A client that has sent its request."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x"), *headers]))
    client.send(h11.EndOfMessage())
    return client


@pytest.mark.parametrize("upfront", [0, 1, len(EARLY)])
def test_bytes_behind_a_requests_head_are_kept(upfront: int) -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(UPGRADE + EARLY[:upfront])
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert isinstance(server.next_event(), h11.EndOfMessage)
    assert server.next_event() is h11.PAUSED
    server.receive_data(EARLY[upfront:] or b"")
    assert server.trailing_data == (EARLY, upfront == len(EARLY))


def test_header_lines_keep_order_repetition_and_spelling() -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(UPGRADE)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert request.headers.raw_items()[-2:] == [
        (b"X-Stream-Protocol-Version", b"v4"),
        (b"X-Stream-Protocol-Version", b"v3"),
    ]


def test_bytes_behind_a_101_are_kept() -> None:
    client = client_of(("Connection", "upgrade"), ("Upgrade", "any"))
    client.receive_data(SWITCH + EARLY)
    event = client.next_event()
    assert isinstance(event, h11.InformationalResponse)
    assert event.status_code == 101
    assert client.trailing_data == (EARLY, False)


def test_a_101_that_nobody_asked_for_is_an_error() -> None:
    client = client_of()
    client.receive_data(SWITCH)
    with pytest.raises(h11.RemoteProtocolError):
        client.next_event()


def test_a_refused_upgrade_leaves_the_connection_for_the_next_request() -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(UPGRADE)
    server.next_event()
    server.next_event()
    server.send(h11.Response(status_code=403, headers=[("Content-Length", "0")]))
    server.send(h11.EndOfMessage())
    assert (server.our_state, server.their_state) == (h11.DONE, h11.DONE)
    server.start_next_cycle()
    server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(server.next_event(), h11.Request)


def test_no_bytes_mean_the_end_of_the_connection() -> None:
    client = client_of()
    client.receive_data(b"HTTP/1.1 200 OK\r\n\r\nbody")
    client.next_event()
    client.next_event()
    assert client.next_event() is h11.NEED_DATA
    client.receive_data(b"")
    assert isinstance(client.next_event(), h11.EndOfMessage)


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
)
def test_a_cut_answer_is_an_error(cut: bytes) -> None:
    client = client_of()
    client.receive_data(cut)
    while client.next_event() is not h11.NEED_DATA:
        pass
    client.receive_data(b"")
    with pytest.raises(h11.RemoteProtocolError):
        client.next_event()


def test_an_unfinished_chunk_is_delivered_as_it_comes() -> None:
    client = client_of()
    client.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nhalf")
    client.next_event()
    event = client.next_event()
    assert isinstance(event, h11.Data)
    assert bytes(event.data) == b"half"


def test_an_answer_to_head_is_declared_as_to_get_and_has_no_body() -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.next_event()
    server.next_event()
    head = server.send(h11.Response(status_code=200, headers=[]))
    assert head is not None
    assert b"\r\ntransfer-encoding: chunked\r\n" in head.lower()
    assert server.send(h11.EndOfMessage()) == b""


def test_a_body_that_does_not_fit_its_length_is_an_error() -> None:
    for data in (b"x", b"xxx"):
        server = h11.Connection(h11.SERVER)
        server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        server.next_event()
        server.next_event()
        server.send(h11.Response(status_code=200, headers=[("Content-Length", "2")]))
        with pytest.raises(h11.LocalProtocolError):
            _send_all(server, data)


def _send_all(server: h11.Connection, data: bytes) -> None:
    server.send(h11.Data(data=data))
    server.send(h11.EndOfMessage())
