"""A TCP link that misbehaves on command: cut with RST, closed with FIN, a black hole, slow."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator


class Link:
    """Relays connections to a port of this host."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._refuses = False
        self.port = 0
        self.rate = 0.0
        """Bytes per second in each direction; 0 means no limit."""
        self.delay = 0.0
        """Seconds added in each direction."""
        self.carried = 0
        """Bytes that were passed on, both ways together."""

    def cut(self) -> None:
        """Reset every connection, and refuse new ones until ``heal``."""
        self._refuses = True
        for writer in tuple(self._writers):
            _reset(writer)

    def close(self) -> None:
        """End every connection in good order, as a proxy that restarts does; take new ones."""
        for writer in tuple(self._writers):
            writer.close()

    def swallow(self) -> None:
        """From now on nothing passes, without a word to anybody."""
        self._open.clear()

    def release(self) -> None:
        """Let traffic pass again, first what was held back, as TCP does when a route returns."""
        self._refuses = False
        self._open.set()

    def heal(self) -> None:
        """Let traffic pass again; what was swallowed is gone with its connections."""
        self._refuses = False
        if not self._open.is_set():
            for writer in tuple(self._writers):
                _reset(writer)
            self._open.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if self._refuses:
            _reset(writer)
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _reset(writer)
            return
        pair = (writer, back)
        self._writers.update(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back))
                group.create_task(self._pump(there, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.difference_update(pair)
            for each in pair:
                _reset(each)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def deliver() -> None:
            while True:
                at, data = await due.get()
                await asyncio.sleep(max(0.0, at - loop.time()))
                await self._open.wait()
                if not data:
                    raise ConnectionResetError("the other end closed")
                writer.write(data)
                self.carried += len(data)
                await writer.drain()
                if self.rate:
                    await asyncio.sleep(len(data) / self.rate)

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            # An end's reset takes the same way as its bytes: through a black hole comes neither.
            with contextlib.suppress(OSError):
                while data := await reader.read(16 * 1024):
                    await due.put((loop.time() + self.delay, data))
            await due.put((loop.time() + self.delay, b""))
            await asyncio.Future()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def link_to(port: int) -> AsyncIterator[Link]:
    """A link for the length of the block; ``link.port`` is where to connect."""
    link = Link(port)
    server = await asyncio.start_server(link.connected, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        link.heal()
        link.cut()
        server.close()
