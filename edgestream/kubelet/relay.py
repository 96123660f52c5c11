"""The answer of a backend, passed on to the caller."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

from edgestream.kubelet.backend_connection import BackendConnection
from edgestream.kubelet.exchange import Exchange
from streamkit.errors import ChannelReset, IncompleteAnswer
from streamkit.service.tasks import spawn
from streamkit.wire.exchange import Headers, ResponseHead, header_values, without_headers

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def end_to_end(headers: Headers) -> Headers:
    """The header lines that are not about one connection only (RFC 9110 §7.6.1)."""
    named = ",".join(header_values(headers, "connection")).lower().split(",")
    return without_headers(headers, _HOP_BY_HOP.union(name.strip() for name in named))


@asynccontextmanager
async def alongside(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run the work in a task of its own for as long as the context lasts."""
    task = spawn(work, name=name, owner=set())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def relay_answer(
    exchange: Exchange, connection: BackendConnection, head: ResponseHead
) -> None:
    """Pass on a plain answer: its head, then its body as it comes.

    Raises IncompleteAnswer if the body breaks off.
    """
    await exchange.send_head(ResponseHead(head.status, end_to_end(head.headers), head.reason))
    async with aclosing(connection.body()) as body:
        async for data in body:
            await exchange.write(data)
    await exchange.end()


async def relay_upgrade(
    exchange: Exchange, connection: BackendConnection, head: ResponseHead
) -> None:
    """Pass on a 101 and then raw bytes, until the backend ends and all it said is delivered.

    The caller's half-close is passed on and ends nothing else. Each direction waits for its own
    reader alone. Raises IncompleteAnswer if the backend's side breaks instead of ending.
    """
    await exchange.send_head(head)
    async with alongside(_to_backend(exchange, connection), name="relay-to-backend"):
        while data := await connection.read():
            await exchange.write(data)
    await exchange.end()


async def _to_backend(exchange: Exchange, connection: BackendConnection) -> None:
    try:
        while data := await exchange.read():
            await connection.write(data)
    except IncompleteAnswer:
        return  # it listens no more, but may have more to say; reading tells how it ends
    except ChannelReset:
        return  # the caller is gone, and the exchange as a whole is about to be cancelled
    connection.write_eof()
