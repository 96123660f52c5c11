"""One address in front of several ports: each connection goes to the next one that takes it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence


class Balancer:
    """Passes bytes on, both ways, and knows nothing of what they mean.

    ``is_ready`` says whether the target of that index takes new connections: what a balancer learns
    from a readiness probe.
    """

    def __init__(self, targets: Sequence[tuple[str, int]], is_ready: Callable[[int], bool]) -> None:
        self._targets = list(targets)
        self._is_ready = is_ready
        self._turn = 0
        self._open: dict[asyncio.StreamWriter, int] = {}
        self.port = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(OSError):
            there, back, self._open[writer] = await self._dial()
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, back))
                group.create_task(_copy(there, writer))
        writer.transport.abort()
        self._open.pop(writer, None)

    def drop(self, index: int) -> None:
        """Close the connections to the target of that index, in good order."""
        for writer in [writer for writer, each in self._open.items() if each == index]:
            writer.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
        for _ in self._targets:
            self._turn += 1
            index = self._turn % len(self._targets)
            if self._is_ready(index):
                with contextlib.suppress(OSError):
                    return *await asyncio.open_connection(*self._targets[index]), index
        raise ConnectionRefusedError


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def balancer(
    *targets: tuple[str, int], is_ready: Callable[[int], bool]
) -> AsyncIterator[Balancer]:
    """A balancer on the loopback for the length of the block."""
    running = Balancer(targets, is_ready)
    server = await asyncio.start_server(running.connected, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
