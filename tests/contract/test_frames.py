"""A message in pieces leaves as one frame, whoever sends it."""

import asyncio

import pytest
import uvloop
from picows import WSMsgType, ws_connect

from streamkit.session.frames import send_frame
from tests.contract.conftest import Tls
from tests.contract.loops import LoopFactory, on_both_loops, run
from tests.contract.picows_peer import Recorder, upgraded
from tests.support.frames import BINARY, Frame
from tests.support.websocket_server import raw_server

SIZES = (0, 1, 125, 126, 0xFFFF, 0x10000, 300_000)
"""On both sides of each length of a frame's header (RFC 6455 §5.2)."""

all_sizes = pytest.mark.parametrize("size", SIZES)


def pieces_of(size: int) -> tuple[bytes | memoryview, ...]:
    """A header of two bytes and a body in two pieces."""
    whole = memoryview(bytes(range(251)) * 1200)[:size]
    return bytes(whole[:2]), whole[2:9], whole[9:]


@on_both_loops
@all_sizes
def test_a_servers_pieces_are_one_frame(loop_factory: LoopFactory, tls: Tls, size: int) -> None:
    async def work() -> None:
        async with upgraded(tls) as peer:
            message = pieces_of(size)
            assert send_frame(peer.transport, WSMsgType.BINARY, message) == size
            assert await peer.next_frame() == Frame(True, BINARY, b"".join(message))

    run(loop_factory, work())


@all_sizes
async def test_a_clients_pieces_are_one_frame_and_masked(size: int) -> None:
    async with asyncio.timeout(20), raw_server() as server:
        transport, _ = await ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/")
        raw = await server.accept()
        message = pieces_of(size)
        assert send_frame(transport, WSMsgType.BINARY, message) == size
        assert await raw.receive() == Frame(True, BINARY, b"".join(message), is_masked=True)
        transport.disconnect()


def test_uvloops_clock_is_too_coarse_for_round_trips() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        times = set()
        for _ in range(50):
            await asyncio.sleep(0)
            times.add(round(loop.time() * 1000, 6) % 1)
        assert times == {0.0}

    run(uvloop.new_event_loop, work())
