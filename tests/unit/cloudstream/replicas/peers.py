"""A replica that follows a script, and what asks it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cloudstream.replicas.exchange import Address, ReplicaDialler
from streamkit.pki.contexts import own_identity, replica_client_context, stream_server_context
from streamkit.pki.files import TlsFiles
from tests.support.cloud import tls_files
from tests.support.http_server import Peer, Script

HOST = "127.0.0.1"
NOT_HERE = b"HTTP/1.1 503 Not Here\r\nCloudstream-Not-Here: %s\r\nContent-Length: 0\r\n\r\n"


def dialler_of(files: TlsFiles) -> ReplicaDialler:
    """As the service with that stream certificate makes it."""
    return ReplicaDialler(replica_client_context(files), lambda: own_identity(files))


@dataclass
class ScriptedReplica:
    """Where it listens, and how many connections came."""

    address: Address = (HOST, 0)
    connections: int = 0


@contextlib.asynccontextmanager
async def scripted_replica(
    pki: Path, script: Script, *, stem: str = "stream", port: int = 0
) -> AsyncIterator[ScriptedReplica]:
    """Answer each connection by the script for the length of the block."""
    replica = ScriptedReplica()
    tasks: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replica.connections += 1
        tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(Peer(reader, writer))
        writer.close()

    context = stream_server_context(tls_files(pki, stem), pki / "ca.crt", trusts_itself=True)
    server = await asyncio.start_server(connected, HOST, port, ssl=context)
    replica.address = server.sockets[0].getsockname()
    try:
        yield replica
    finally:
        server.close()
        for task in tasks:
            if task:
                task.cancel()


def says(head: bytes) -> Script:
    """A script that answers every request so."""

    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(head)
        await peer.receive()

    return script
