"""``python -m lab.apiserver --config FILE.json``: serve until SIGTERM or SIGINT.

Prints one line as soon as it listens: ``API server stand-in on https://HOST:PORT``.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.apiserver.config import Config, load
from lab.apiserver.cripods import CriPods
from lab.apiserver.server import ApiServer
from lab.apiserver.world import World
from lab.cri import Cri, compile_descriptors
from streamkit.errors import StreamError


async def serve(config: Config) -> None:
    """Serve until a signal says that it is enough."""
    enough = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, enough.set)
    with contextlib.ExitStack() as stack:
        server = ApiServer(config, World(config, _sources(config, stack)))
        try:
            print(f"API server stand-in on {await server.start()}", flush=True)
            await enough.wait()
        finally:
            await server.close()


def _sources(config: Config, stack: contextlib.ExitStack) -> list[CriPods]:
    sources = []
    descriptors = compile_descriptors()
    for node in config.nodes:
        if node.cri:
            cri = Cri(node.cri, descriptors)
            stack.callback(cri.channel.close)
            sources.append(CriPods(cri, node))
    return sources


def main(arguments: Sequence[str] | None = None) -> int:
    """The stand-in's command line; 1 if it can't start."""
    parser = argparse.ArgumentParser(prog="python -m lab.apiserver", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a JSON file")
    try:
        asyncio.run(serve(load(parser.parse_args(arguments).config)))
    except StreamError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
