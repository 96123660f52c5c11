"""The listening side: TLS, connections, the errors that become answers, and the end."""

import asyncio
import ssl

import h11

from lab.apiserver.call import JSON_HEADERS, Call
from lab.apiserver.config import Config, join_address, parse_address
from lab.apiserver.http1 import CLOSE_TIMEOUT, READ_SIZE, ClientConnection
from lab.apiserver.identity import identify
from lab.apiserver.kubelet import KubeletClient
from lab.apiserver.router import Router
from lab.apiserver.status import ApiError, internal_error
from lab.apiserver.world import World
from streamkit.errors import PortInUse
from streamkit.wire.exchange import RequestHead

HANDSHAKE_TIMEOUT = 30.0


class ApiServer:
    """Serves from ``start`` to ``close``; sessions that still run are then dropped."""

    def __init__(self, config: Config, world: World) -> None:
        self._config = config
        self._kubelets = KubeletClient(config.kubelet)
        self._router = Router(config, world, self._kubelets)
        self._listener: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen, and return the URL to reach it; raises PortInUse."""
        host, port = parse_address(self._config.listen)
        try:
            self._listener = await asyncio.start_server(
                self._accept,
                host,
                port,
                limit=READ_SIZE,
                ssl=_server_context(self._config),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=CLOSE_TIMEOUT,
            )
        except OSError as error:
            raise PortInUse(
                f"the API-server stand-in can't listen on {self._config.listen}: {error.strerror}"
            ) from error
        bound = self._listener.sockets[0].getsockname()
        return f"https://{join_address(bound[0], bound[1])}"

    async def close(self) -> None:
        """Stop listening and drop every connection at once. May be repeated."""
        if self._listener:
            self._listener.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._kubelets.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(ClientConnection(reader, writer)))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, connection: ClientConnection) -> None:
        try:
            while (request := await connection.next_request()) is not None:
                await connection.while_present(self._answer(connection, *request))
        except (h11.ProtocolError, OSError, TimeoutError):
            pass  # the client broke off, went silent, or does not speak HTTP
        except asyncio.CancelledError:
            connection.abort()
            raise
        finally:
            connection.close()

    async def _answer(self, connection: ClientConnection, head: RequestHead, body: bytes) -> None:
        try:
            caller = identify(connection.certificate, head, self._config.tokens)
            await self._router.answer(Call(connection, head, body, caller))
        except ApiError as error:
            await _answer_error(connection, error)
        except (OSError, h11.ProtocolError):
            raise
        except Exception as error:
            name = type(error).__name__
            await _answer_error(connection, internal_error(f"{name} in the API-server stand-in"))
            raise


async def _answer_error(connection: ClientConnection, error: ApiError) -> None:
    """Too late for a status means that the client is to see a broken answer."""
    if connection.answered:
        connection.abort()
    else:
        await connection.answer(error.status, JSON_HEADERS, error.body())


def _server_context(config: Config) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.tls.cert, config.tls.key)
    context.load_verify_locations(config.client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
