"""A TCP server for the network of a pod: ``python -m tests.support.tcp_server``.

It sends back what comes, to the end, and prints its port on a line of its own.
"""

import asyncio
import sys

_PIECE = 1 << 16


async def _send_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_send_back, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
