"""One forwarded connection: what a caller and a server in a pod say to each other."""

import asyncio
from contextlib import closing
from typing import Protocol

from edgestream.kubelet.inbox import Inbox
from edgestream.kubelet.pod_connection import ForwardingFailed, PodConnection
from edgestream.kubelet.relay import alongside

LAST_WORDS = 1.0
"""Seconds that a caller may be silent, once the server has ended, before all counts as said.

kubectl passes the server's end on to its own client only then.
"""

MAX_PORT = 65535

_LOOK_AGAIN = 0.1
"""Seconds between two looks at whether anybody still reads at the server's end."""


class Caller(Protocol):
    """The caller's end of one forwarded connection. Each of these may be cancelled."""

    async def write(self, data: bytes) -> None:
        """Send; waits while the caller does not take it."""

    async def write_eof(self) -> None:
        """Tell that the server has ended its direction."""

    async def succeed(self) -> None:
        """Tell that nothing more is to be expected, and that nothing was lost."""

    async def fail(self, sentence: str) -> None:
        """Tell that there was no connection, or that it broke; nothing more is sent."""


class Ports(Protocol):
    """The ports of one pod."""

    async def connect(self, port: int) -> PodConnection:
        """A new connection to a port. Raises ForwardingFailed."""

    def failure(self, port: int, error: ForwardingFailed) -> str:
        """What a caller is told of a connection that failed."""


def port_number(text: str) -> int | None:
    """The port that a decimal number names; None for anything else."""
    if not (text.isascii() and text.isdigit()) or len(text.lstrip("0")) > 5:
        return None
    number = int(text)
    return number if 0 < number <= MAX_PORT else None


async def forward(ports: Ports, port: int, inbox: Inbox, caller: Caller) -> None:
    """Connect and pass everything on, until both sides have ended or nobody listens any more.

    Either side's half-close is passed on, and ends nothing else. Cancelling drops the connection.
    """
    try:
        with closing(await ports.connect(port)) as connection:
            await _pass_on(connection, inbox, caller)
    except ForwardingFailed as error:
        await caller.fail(ports.failure(port, error))
    finally:
        inbox.close()


async def _pass_on(connection: PodConnection, inbox: Inbox, caller: Caller) -> None:
    has_ended = asyncio.Event()
    async with alongside(_to_server(connection, inbox, has_ended), name="forward-to-pod"):
        while data := await connection.read():
            await caller.write(data)
        await caller.write_eof()
        await _last_words(connection, inbox, has_ended)
        await caller.succeed()
        if not connection.is_abandoned:
            await has_ended.wait()


async def _to_server(connection: PodConnection, inbox: Inbox, has_ended: asyncio.Event) -> None:
    while data := await inbox.get():
        if not await connection.write(data):
            inbox.close()  # reading tells how the server ended
            break
    else:
        connection.write_eof()
    has_ended.set()


async def _last_words(connection: PodConnection, inbox: Inbox, has_ended: asyncio.Event) -> None:
    """Wait until the caller has ended too, or falls silent, or speaks to nobody."""
    received, silence = -1, 0.0
    while silence < LAST_WORDS and not connection.is_abandoned:
        try:
            async with asyncio.timeout(_LOOK_AGAIN):
                await has_ended.wait()
                return
        except TimeoutError:
            is_silent = inbox.is_empty and inbox.received == received
            silence = silence + _LOOK_AGAIN if is_silent else 0.0
            received = inbox.received
