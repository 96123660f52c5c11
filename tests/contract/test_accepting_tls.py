"""What the listener relies on: a TLS handshake that fails says how, on both loops."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.conftest import Tls
from tests.contract.loops import LoopFactory, on_both_loops, run


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@contextlib.asynccontextmanager
async def accepting(
    tls: Tls, deadline: float = 10
) -> AsyncIterator[tuple[int, "asyncio.Task[asyncio.BaseTransport]"]]:
    """A port, and the task that accepts one connection on it."""
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def accept() -> asyncio.BaseTransport:
        connection, _ = await loop.sock_accept(listening)
        try:
            transport, _ = await loop.connect_accepted_socket(
                Echo,
                connection,
                ssl=tls.server,
                ssl_handshake_timeout=deadline,
                ssl_shutdown_timeout=1,
            )
        except BaseException:
            connection.close()
            raise
        return transport

    task = asyncio.ensure_future(accept())
    try:
        yield listening.getsockname()[1], task
    finally:
        task.cancel()
        listening.close()


@on_both_loops
def test_a_verified_client_is_served_and_known(loop_factory: LoopFactory, tls: Tls) -> None:
    async def work() -> None:
        async with accepting(tls) as (port, accepted):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.client)
            transport = await accepted
            writer.write(b"echo")
            assert await reader.readexactly(4) == b"echo"
            subject = transport.get_extra_info("peercert")["subject"]
            assert ("commonName", "system:node:edge-1") in [
                pair for part in subject for pair in part
            ]
            assert transport.get_extra_info("peername")[1] == writer.get_extra_info("sockname")[1]
            writer.transport.abort()
            transport.close()

    run(loop_factory, work())


@on_both_loops
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP_REQUEST"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "WRONG_VERSION_NUMBER"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "WRONG_VERSION_NUMBER"),
    ],
)
def test_what_is_no_tls_is_named(
    loop_factory: LoopFactory, tls: Tls, sent: bytes, reason: str
) -> None:
    async def work() -> None:
        async with accepting(tls) as (port, accepted):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            with pytest.raises(ssl.SSLError) as raised:
                await accepted
            assert raised.value.reason == reason
            writer.transport.abort()

    run(loop_factory, work())


@on_both_loops
@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ("nothing", "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        ("stranger", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_a_client_that_is_not_verified_is_named(
    loop_factory: LoopFactory, tls: Tls, shown: str, reason: str
) -> None:
    async def work() -> None:
        async with accepting(tls) as (port, accepted):
            context = tls.stranger if shown == "stranger" else tls.anonymous
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            with pytest.raises(ssl.SSLError) as raised:
                await accepted
            assert raised.value.reason == reason
            writer.transport.abort()

    run(loop_factory, work())


@on_both_loops
def test_a_client_that_leaves_or_dawdles_is_an_os_error(
    loop_factory: LoopFactory, tls: Tls
) -> None:
    async def work() -> None:
        async with accepting(tls) as (port, accepted):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            with pytest.raises(OSError):
                await accepted
        async with accepting(tls, deadline=0.05) as (port, accepted):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            # asyncio raises ConnectionAbortedError here, and so does uvloop.
            with pytest.raises(OSError):
                await accepted
            writer.transport.abort()

    run(loop_factory, work())


@on_both_loops
def test_a_failed_handshake_leaves_the_socket_to_be_closed(
    loop_factory: LoopFactory, tls: Tls
) -> None:
    async def work() -> None:
        async with accepting(tls) as (port, accepted):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(ssl.SSLError):
                await accepted
            with contextlib.suppress(ConnectionError):
                await reader.read()
            assert reader.at_eof() or reader.exception() is not None
            writer.transport.abort()

    run(loop_factory, work())
