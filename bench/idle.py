"""Idle tunnels: many edges that only register, as cheap as they can be made."""

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import uvloop

PARALLEL = 16
T = TypeVar("T")


class _Edge(asyncio.Protocol):
    def __init__(self, name: str) -> None:
        self._head = (
            "GET /v1/kubeedge/connect HTTP/1.1\r\nHost: cloud\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: 2PUmCzwkPoGK91r5pzKaqw==\r\n"
            f"SessionHostNameOverride: {name}\r\nSessionInternalIP: 127.0.0.1\r\n\r\n"
        ).encode()
        self.is_open = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._head)

    def data_received(self, data: bytes) -> None:
        self.is_open.set()


def _context(pki: Path, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / f"edge-{name}.crt", pki / f"edge-{name}.key")
    return context


async def _connect(port: int, context: ssl.SSLContext, name: str) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    transport, edge = await loop.create_connection(
        lambda: _Edge(name), "127.0.0.1", port, ssl=context
    )
    async with asyncio.timeout(30):
        await edge.is_open.wait()
    return transport


def hold_tunnels(
    port: int, pki: Path, names: list[str], measure: Callable[[], T]
) -> tuple[float, T]:
    """Connects per second, and what ``measure`` returned while all were open."""

    contexts = {name: _context(pki, name) for name in names}

    async def run() -> tuple[float, T]:
        gate = asyncio.Semaphore(PARALLEL)

        async def one(name: str) -> asyncio.Transport:
            async with gate:
                return await _connect(port, contexts[name], name)

        began = time.perf_counter()
        transports = await asyncio.gather(*(one(name) for name in names))
        rate = len(names) / (time.perf_counter() - began)
        result = measure()
        for transport in transports:
            transport.abort()
        return rate, result

    return uvloop.run(run())
