"""The edge agent with scripted answers: logs, an echo and a sink, from memory."""

import asyncio
import sys
from pathlib import Path

import uvloop

from edgestream import service
from edgestream.config import load
from edgestream.kubelet.exchange import Exchange, KubeletHandler
from streamkit.service.logs import configure
from streamkit.wire.exchange import ResponseHead

LINES = b"".join(b"%07d %s\n" % (number, b"x" * 91) for number in range(655))[: 64 * 1024]
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))


class ScriptedBackend:
    """Answers by the path's third part: ``/containerLogs/bench/<size>/c``, ``/exec/bench/echo/c``,
    ``/exec/bench/sink/c``."""

    async def serve(self, exchange: Exchange) -> None:
        root, _, what = exchange.request.path.split("/")[1:4]
        if root == "containerLogs":
            await exchange.send_head(ResponseHead(200))
            await self._write(exchange, int(what))
            return
        await exchange.send_head(SWITCH)
        if what == "echo":
            while data := await exchange.read():
                await exchange.write(data)
            return
        size = int(exchange.request.query)
        while size > 0:
            data = await exchange.read()
            size -= len(data)
        await exchange.write(b"done")

    async def close(self) -> None:
        """Nothing is kept."""

    async def _write(self, exchange: Exchange, size: int) -> None:
        while size > 0:
            await exchange.write(LINES[:size])
            size -= len(LINES)


def main() -> None:
    """Run until terminated."""
    configure(0, "text")
    config = load(Path(sys.argv[1]))

    def handler(_: object) -> KubeletHandler:
        return ScriptedBackend()

    async def run() -> None:
        await service.run(config, handler=handler)

    (uvloop if sys.argv[2:] == ["uvloop"] else asyncio).run(run())


if __name__ == "__main__":
    main()
