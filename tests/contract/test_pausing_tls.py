"""What pausing relies on: a TLS transport that is read again hands over all that came."""

import asyncio
import os
import socket
from typing import Any

import aiofastnet

from streamkit.session.reading import Reading
from tests.contract.conftest import Tls
from tests.contract.loops import LoopFactory, on_both_loops, run

DATA = os.urandom(262_500)
"""aiofastnet decrypts this much at once, and hands over 256 KiB of it first."""


class Hesitant(asyncio.Protocol):
    """Reads when it is told to, and pauses as soon as it gets something."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_lost = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.reading = Reading(transport)
        self.reading.pause()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.reading.pause()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost.set()


@on_both_loops
def test_nothing_that_was_read_is_forgotten(loop_factory: LoopFactory, tls: Tls) -> None:
    async def work() -> None:
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for each in (ours, theirs):
            each.setblocking(False)
        accepting = asyncio.ensure_future(
            aiofastnet.connect_accepted_socket(
                asyncio.get_running_loop(), Hesitant, ours, ssl=tls.server
            )
        )
        _, writer = await asyncio.open_connection(
            sock=theirs, ssl=tls.client, server_hostname="localhost"
        )
        _, hesitant = await accepting
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(DATA)
        await writer.drain()
        while len(hesitant.received) < len(DATA):
            hesitant.reading.resume()
            await asyncio.sleep(0.05)
        assert hesitant.received == DATA
        writer.transport.abort()
        hesitant.transport.abort()
        await hesitant.is_lost.wait()

    run(loop_factory, work())
