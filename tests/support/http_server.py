"""A TCP server on the loopback that follows a script, for what no well-behaved server does."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Script = Callable[["Peer"], Awaitable[None]]

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive_head(self) -> list[str]:
        """The lines of the request's head."""
        return (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]

    async def receive(self) -> bytes:
        """What comes next; empty at the client's end."""
        return await self._reader.read(1 << 16)

    async def receive_all(self) -> bytes:
        """The rest, up to the client's end."""
        return await self._reader.read()

    async def receive_exactly(self, count: int) -> bytes:
        """So many bytes."""
        return await self._reader.readexactly(count)

    async def send(self, data: bytes) -> None:
        """Send in one piece; waits while the client does not read."""
        self._writer.write(data)
        await self._writer.drain()

    def send_eof(self) -> None:
        """Half-close."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Break the connection instead of closing it."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class ScriptedServer:
    """Where it listens, how many connections came, and whether the last one is over."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.finished = asyncio.Event()

    @property
    def url(self) -> str:
        """A streaming URL as containerd would return it."""
        return f"http://127.0.0.1:{self.port}/exec/t0k3n"


@asynccontextmanager
async def scripted_server(script: Script) -> AsyncIterator[ScriptedServer]:
    """Serve every connection by the script; it is closed where the script returns.

    What a script raises, the context raises at its end.
    """
    state = ScriptedServer()
    failures: list[Exception] = []
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    async def accept(listener: socket.socket) -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            state.connections += 1
            tasks.add(asyncio.create_task(serve(connection)))

    async def serve(connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            await script(Peer(reader, writer))
        except ConnectionError:
            pass  # the client left
        except asyncio.CancelledError:
            writer.transport.abort()  # the test ended
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()
            state.finished.set()
            with suppress(ConnectionError):
                await writer.wait_closed()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        state.port = listener.getsockname()[1]
        tasks.add(asyncio.create_task(accept(listener)))
        try:
            yield state
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    if failures:
        raise failures[0]


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
