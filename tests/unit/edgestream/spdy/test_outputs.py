"""Which output streams a server has ended, and what follows when it then says no more."""

import asyncio
from unittest import mock

import pytest

from edgestream.kubelet.runtime_stream import stream
from edgestream.spdy.outputs import OutputEnds
from streamkit.errors import IncompleteAnswer
from streamkit.wire.exchange import RequestHead
from tests.support.exchange import MemoryExchange
from tests.support.http_server import SWITCHED, Peer, scripted_server

LIMIT = 10.0
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
REQUEST = RequestHead("POST", "/exec/ns/p/c?command=id&output=1&input=1", UPGRADE)

REPLY = bytes.fromhex("80030002 00000004 00000003")
FIN = "01"


def data_frame(stream: int, payload: bytes = b"", flags: str = "00") -> bytes:
    return stream.to_bytes(4) + bytes.fromhex(flags) + len(payload).to_bytes(3) + payload


ENDED = (
    REPLY + data_frame(3, b"out") + data_frame(3, b"more", FIN) + data_frame(5, flags=FIN),
    REPLY + data_frame(5, flags=FIN) + REPLY + data_frame(3, data_frame(7, flags=FIN), FIN),
)
GOING_ON = (
    b"",
    REPLY + data_frame(3, b"out", FIN) + data_frame(3, flags=FIN),
    REPLY + data_frame(3, data_frame(5, flags=FIN), FIN),
    REPLY + bytes.fromhex("80030002 01000004 00000003 80030002 01000004 00000005"),
    data_frame(3, flags=FIN) + data_frame(5, flags=FIN),  # no SPDY: a client of WebSocket
)


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize(
    ("sent", "are_complete"),
    [*((sent, True) for sent in ENDED), *((sent, False) for sent in GOING_ON)],
)
def test_two_outputs(sent: bytes, are_complete: bool, step: int) -> None:
    ends = OutputEnds(2)
    for begin in range(0, len(sent), step):
        ends.feed(sent[begin : begin + step])
    assert ends.are_complete is are_complete


def test_what_is_not_expected_never_ends() -> None:
    ends = OutputEnds(0)
    ends.feed(ENDED[0])
    assert not ends.are_complete


@pytest.mark.parametrize("ends", [True, False])
async def test_a_runtime_that_is_stuck_with_input_is_given_up_when_output_has_ended(
    ends: bool,
) -> None:
    output = REPLY + data_frame(3, b"zz", FIN if ends else "00")

    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + output)
        await asyncio.Event().wait()

    async def type_on(exchange: MemoryExchange) -> None:
        while True:
            await exchange.send(b"y" * 65536)

    with mock.patch("edgestream.kubelet.relay.STATUS_DEADLINE", 0.05):
        async with scripted_server(script) as server:
            exchange = MemoryExchange(REQUEST)
            serving = asyncio.create_task(
                stream(exchange, server.url, dial_deadline=LIMIT, outputs=1)
            )
            typing = asyncio.create_task(type_on(exchange))
            done, _ = await asyncio.wait([serving], timeout=LIMIT if ends else 1)
            for task in (serving, typing):
                task.cancel()
            (failure, _) = await asyncio.gather(serving, typing, return_exceptions=True)
    assert bool(done) is ends
    assert isinstance(failure, IncompleteAnswer if ends else asyncio.CancelledError)
