"""Listens for API servers that come by HTTP CONNECT: on a unix socket, on a TLS port, or both."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import stat
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from cloudstream.callers import Callers
from cloudstream.config import CloudDeadlines, EgressSettings
from cloudstream.egress.connection import EgressConnection
from cloudstream.egress.destination import Destinations, Edge
from cloudstream.egress.pipe import PipeEnd
from cloudstream.stream_server import StreamServer
from streamkit.errors import EgressFailed, LocalProtocolError, PortInUse, StreamError
from streamkit.service.config import split_address
from streamkit.service.listener import TlsListener
from streamkit.service.tasks import spawn
from streamkit.wire.exchange import RequestHead

log = logging.getLogger(__name__)

_BACKLOG = 1024
_MODE = 0o660
"""Of the unix socket: whoever may write to it may connect."""


class EgressServer:
    """Leads connections for edge nodes to the stream server, and relays what may be relayed.

    On the port a client certificate is required that may call the stream port too; on the unix
    socket the file's mode decides. Raises PortInUse where either can't be had.
    """

    def __init__(
        self,
        settings: EgressSettings,
        deadlines: CloudDeadlines,
        *,
        context: ssl.SSLContext,
        callers: Callers,
        destinations: Destinations,
        streams: StreamServer,
        stream_listener: TlsListener,
    ) -> None:
        self._deadlines = deadlines
        self._callers = callers
        self._destinations = destinations
        self._streams = streams
        self._stream_listener = stream_listener
        self._connections: set[EgressConnection] = set()
        self._group: asyncio.TaskGroup | None = None
        self.outcomes: Counter[tuple[str]] = Counter({("edge",): 0, ("relayed",): 0})
        """What became of CONNECTs: "edge", "relayed", or the code of an error."""
        self._path = Path(settings.socket) if settings.socket else None
        self._socket: socket.socket | None = None
        self.listener = TlsListener(
            "egress port",
            context,
            self._connection,
            handshake_deadline=deadlines.handshake,
            close_deadline=deadlines.close,
        )
        self._has_port = bool(settings.address)
        if settings.address:
            self.listener.bind(*split_address(settings.address))
        if self._path:
            try:
                self._socket = _listen_at(self._path)
            except StreamError:
                self.listener.close()
                raise

    @property
    def live(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    async def run(self) -> None:
        """Serve until cancelled; then every connection is broken off."""
        try:
            async with asyncio.TaskGroup() as self._group:
                if self._has_port:
                    spawn(self.listener.serve(), name="egress listener", owner=self._group)
                if self._socket:
                    spawn(self._serve_at(self._socket), name="egress socket", owner=self._group)
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None
            self.close()
            while self._connections:
                for connection in tuple(self._connections):
                    connection.break_off()
                await asyncio.sleep(0)

    def close(self) -> None:
        """Give port and socket back. Idempotent."""
        self.listener.close()
        if self._socket and self._path:
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def _serve_at(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_unix_server(self._connection, sock=sock) as server:
            await server.serve_forever()

    def _connection(self) -> EgressConnection:
        return EgressConnection(
            self._connect,
            self._spawn,
            self._connections,
            head_deadline=self._deadlines.request_head,
        )

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        if self._group is None:
            work.close()
            raise LocalProtocolError("the egress server does not run")
        return spawn(work, name=name, owner=self._group)

    async def _connect(self, near: EgressConnection, target: str) -> None:
        try:
            if near.has_tls:
                await self._callers.check(near.peercert, RequestHead("CONNECT", target, ()))
            host, port = split_address(target)
            within = self._deadlines.open
            found = await self._destinations.find(host, port, within=within)
            if isinstance(found, Edge):
                await self._to_edge(near, found.host)
            else:
                await self._relay(near, found.address, found.port)
        except StreamError as error:
            self.outcomes[error.code,] += 1
            raise

    async def _to_edge(self, near: EgressConnection, host: str) -> None:
        """Through a pair of sockets, so that the inner TLS is as any other to the stream server."""
        self.outcomes["edge",] += 1
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
        loop = asyncio.get_running_loop()
        _, far = await loop.create_unix_connection(PipeEnd, sock=ours)
        near.connected_to(far)
        peer = f"{near.peer}, by CONNECT"
        await self._stream_listener.shake_hands(
            theirs, peer, lambda: self._streams.connection(dialled=host, peer=peer)
        )

    async def _relay(self, near: EgressConnection, address: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadlines.open):
                _, far = await loop.create_connection(PipeEnd, address, port)
        except OSError as error:  # a timeout is one, too
            why = os.strerror(error.errno) if error.errno else "no answer in time"
            raise EgressFailed(f"{address}, port {port}, can't be reached: {why}") from error
        self.outcomes["relayed",] += 1
        near.connected_to(far)


def _listen_at(path: Path) -> socket.socket:
    """A unix socket at that path; one that nobody listens at any more is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        if _is_left_over(path):
            path.unlink()
        sock.bind(str(path))
        path.chmod(_MODE)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        number = error.errno
        why = os.strerror(number) if number else str(error)
        raise PortInUse(
            f"the egress socket can't be made at {path}: {why}",
            hint="see egress.socket: its directory has to exist and to be writable",
        ) from error
    return sock


def _is_left_over(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                return probe.connect_ex(str(path)) == errno.ECONNREFUSED
    return False
