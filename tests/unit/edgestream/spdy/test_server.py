import pytest

from edgestream.spdy.frames import FIN, UNIDIRECTIONAL, Kind, Status, control_frame, data_frame
from edgestream.spdy.headers import HeaderReader, HeaderWriter
from edgestream.spdy.server import (
    Answer,
    Event,
    GoneAway,
    SpdyServer,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from streamkit.errors import BadRequest
from tests.unit.edgestream.spdy.recordings import KUBECTL, KUBECTL_HEADERS

HEADERS = {"streamtype": "data"}


class Client:
    """Makes a client's frames."""

    def __init__(self) -> None:
        self._writer = HeaderWriter()

    def open(self, stream_id: int, flags: int = 0) -> bytes:
        payload = stream_id.to_bytes(4) + bytes(6) + self._writer.write(HEADERS)
        return control_frame(Kind.SYN_STREAM, payload, flags)

    def headers(self, stream_id: int, flags: int = 0) -> bytes:
        payload = stream_id.to_bytes(4) + self._writer.write(HEADERS)
        return control_frame(Kind.HEADERS, payload, flags)


def reset(stream_id: int, status: Status) -> bytes:
    payload = stream_id.to_bytes(4) + status.to_bytes(4)
    return control_frame(Kind.RST_STREAM, payload)


def shown(events: list[Event]) -> list[Event]:
    """The events, in a form that can be compared."""
    return [
        StreamData(each.stream_id, memoryview(bytes(each.payload)))
        if isinstance(each, StreamData)
        else each
        for each in events
    ]


def test_a_recorded_client() -> None:
    assert shown(SpdyServer().receive(KUBECTL)) == [
        StreamOpened(1, KUBECTL_HEADERS[0]),
        StreamEnded(1),
        StreamOpened(3, KUBECTL_HEADERS[1]),
        StreamData(3, memoryview(b"GET / HTTP/1.0\r\n\r\n")),
        StreamReset(3),
        GoneAway(),
    ]


def test_both_directions_end_for_themselves() -> None:
    server, client = SpdyServer(), Client()
    server.receive(client.open(1))
    reply = server.accept(1)
    assert reply[:12] == bytes.fromhex("80030002 00000014 00000001")
    assert HeaderReader().read(reply[12:]) == {}
    assert server.receive(data_frame(1, is_last=True)) == [StreamEnded(1)]
    assert server.receive(data_frame(1, b"late")) == []
    assert server.send(1, b"more") == data_frame(1, b"more")
    assert server.send(1, b"last", is_last=True) == data_frame(1, b"last", is_last=True)
    assert server.send(1, b"late") == b""
    assert server.reset(1, Status.CANCEL) == b""


def test_a_stream_that_the_client_resets_is_over_both_ways() -> None:
    server, client = SpdyServer(), Client()
    server.receive(client.open(1))
    assert server.receive(reset(1, Status.CANCEL)) == [StreamReset(1)]
    assert server.receive(reset(1, Status.CANCEL) + data_frame(1, b"late")) == []
    assert server.accept(1) == server.send(1, b"late") == server.reset(1, Status.CANCEL) == b""


def test_a_stream_that_the_server_resets_is_over_both_ways() -> None:
    server, client = SpdyServer(), Client()
    server.receive(client.open(1))
    assert server.reset(1, Status.CANCEL) == reset(1, Status.CANCEL)
    assert server.receive(data_frame(1, b"crossed it", is_last=True)) == []
    assert server.send(1, b"late") == b""


def test_flags_of_the_first_frame() -> None:
    server, client = SpdyServer(), Client()
    opened = server.receive(client.open(1, FIN) + client.open(3, UNIDIRECTIONAL))
    assert opened == [StreamOpened(1, HEADERS), StreamEnded(1), StreamOpened(3, HEADERS)]
    assert server.accept(1)
    assert server.accept(3) == server.send(3, b"nobody listens") == b""
    assert len(server.receive(data_frame(3, b"more"))) == 1


@pytest.mark.parametrize("stream_id", [2, 1, 3, 5])
def test_numbers_have_to_be_odd_and_to_grow(stream_id: int) -> None:
    server, client = SpdyServer(), Client()
    server.receive(client.open(5))
    refused = Answer(reset(stream_id, Status.PROTOCOL_ERROR))
    assert server.receive(client.open(stream_id)) == [refused]
    assert server.receive(client.open(7)) == [StreamOpened(7, HEADERS)]


def test_pings_come_back_and_the_servers_own_do_not() -> None:
    ping = control_frame(Kind.PING, (7).to_bytes(4))
    assert SpdyServer().receive(ping) == [Answer(ping)]
    assert SpdyServer().receive(control_frame(Kind.PING, (8).to_bytes(4))) == []


def test_a_client_that_goes_away_opens_nothing_more() -> None:
    server, client = SpdyServer(), Client()
    server.receive(client.open(1))
    assert server.receive(control_frame(Kind.GOAWAY, bytes(8))) == [GoneAway()]
    assert server.receive(client.open(3)) == []
    assert len(server.receive(data_frame(1, b"more"))) == 1


def test_later_headers_are_read_and_may_end_a_stream() -> None:
    server, client = SpdyServer(), Client()
    assert server.receive(client.open(1) + client.headers(1)) == [StreamOpened(1, HEADERS)]
    assert server.receive(client.headers(1, FIN)) == [StreamEnded(1)]
    assert server.receive(client.headers(1, FIN) + client.open(3)) == [StreamOpened(3, HEADERS)]


def test_settings_and_windows_are_left_unread() -> None:
    settings = bytes.fromhex("80030004 0000000c 00000001 00000004 00000064")
    window = bytes.fromhex("80030009 00000008 00000000 00010000")
    assert SpdyServer().receive(settings + window + data_frame(9, b"of no stream")) == []


@pytest.mark.parametrize(
    "broken",
    [
        control_frame(Kind.SYN_STREAM, bytes(3)),
        control_frame(Kind.SYN_STREAM, bytes(10) + b"no headers"),
        control_frame(Kind.RST_STREAM, bytes(4)),
        control_frame(Kind.PING, b""),
    ],
)
def test_what_can_not_be_understood(broken: bytes) -> None:
    with pytest.raises(BadRequest):
        SpdyServer().receive(broken)


def test_it_tells_what_it_has_seen_last() -> None:
    server = SpdyServer()
    server.receive(Client().open(5))
    assert server.go_away() == bytes.fromhex("80030007 00000008 00000005 00000001")
