"""A TCP server for the network of a pod: ``python -m tests.support.tcp_server``.

It sends back what comes, to the end, and prints its port on a line of its own. With ``--after`` it
begins so many seconds after the client's end.
"""

import argparse
import asyncio
import sys

_PIECE = 1 << 16


async def _send_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _serve(address: str, after: float | None) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after is not None:
            data = await reader.read()
            await asyncio.sleep(after)
            reader = asyncio.StreamReader()
            reader.feed_data(data)
            reader.feed_eof()
        await _send_back(reader, writer)

    server = await asyncio.start_server(connected, address, 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--after", type=float)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.address, arguments.after))
