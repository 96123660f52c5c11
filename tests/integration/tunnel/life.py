"""A cloud with short deadlines, and what its edges answer."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from cloudstream.config import CloudDeadlines, CloudLimits, CloudSettings
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.support.api_client import ApiClient
from tests.support.cloud import Cloud, running_cloud
from tests.support.stock_edge import KubeletCall

LOGS = "/containerLogs/default/web/app"
PORTS = "/portForward/default/web"
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
RAW_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def running(
    tmp_path: Path, deadlines: CloudDeadlines | None = None, limits: CloudLimits | None = None
) -> AsyncIterator[Cloud]:
    settings = CloudSettings(
        bind_address="127.0.0.1",
        deadlines=deadlines or CloudDeadlines(close=0.1, reconnect=0.1),
        limits=limits or CloudLimits(),
    )
    async with running_cloud(tmp_path / "pki", settings) as made:
        yield made


async def echo(exchange: Exchange) -> None:
    await exchange.send_head(SWITCH)
    while data := await exchange.read():
        await exchange.write(data)


async def raw_echo(call: KubeletCall) -> None:
    await call.write(RAW_SWITCH)
    while True:
        await call.write(await call.read())


async def never(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def works(client: ApiClient) -> None:
    """An open echo still answers."""
    data = os.urandom(1000)
    client.writer.write(data)
    assert await client.receive(len(data)) == data


def proxied(node: str) -> str:
    return f"X-Forwarded-Uri: /api/v1/nodes/{node}/proxy/x"
