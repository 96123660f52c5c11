"""Requests to kubelet ports, over the connections that a real API server uses for them.

Logs and node proxy share pooled keep-alive connections, every upgrade gets its own. Limits are the
recorded ones: 30 s for TCP, 10 s for TLS on pooled connections, 90 s of idleness, and none for an
answer, which is bounded by the presence of the client who wants it.
"""

import asyncio
import socket
import ssl
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lab.apiserver import gotext
from lab.apiserver.config import Address, KubeletTls, join_address
from lab.apiserver.http1 import CLOSE_TIMEOUT, READ_SIZE
from lab.apiserver.kubeletwire import KubeletConnection, KubeletFailure
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values, without_headers

DIAL_TIMEOUT = 30.0
HANDSHAKE_TIMEOUT = 10.0
UPGRADE_HANDSHAKE_TIMEOUT = 600.0
IDLE_TIMEOUT = 90.0


@dataclass(frozen=True, slots=True)
class KubeletPort:
    """A node's address and port, and where to connect instead if not there."""

    host: str
    port: int
    dial: Address | None = None

    @property
    def netloc(self) -> str:
        """``host:port`` as Host headers and failures tell it."""
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class _Mode:
    """How TLS is done; connections of different modes are not shared."""

    verify: bool = True
    with_certificate: bool = True


_USUAL = _Mode()
_Key = tuple[KubeletPort, _Mode]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body is still to be read."""

    head: ResponseHead
    chunks: AsyncIterator[bytes]


class KubeletClient:
    """Everything that goes to kubelets. All calls raise KubeletFailure in Go's words."""

    def __init__(self, tls: KubeletTls) -> None:
        self._contexts = {
            mode: _client_context(tls, mode)
            for mode in (_USUAL, _Mode(verify=False), _Mode(with_certificate=False))
        }
        self._idle: defaultdict[_Key, dict[KubeletConnection, asyncio.TimerHandle]] = defaultdict(
            dict
        )

    @asynccontextmanager
    async def fetch(
        self,
        port: KubeletPort,
        head: RequestHead,
        body: bytes = b"",
        *,
        verify: bool = True,
        with_certificate: bool = True,
    ) -> AsyncIterator[Answer]:
        """Ask over a pooled connection; it goes back there if the body was read to its end.

        ``verify`` checks the kubelet's certificate, provided that a CA was configured. Without
        ``with_certificate`` no client certificate is shown: the request has to say who asks.
        A request that names no Accept-Encoding gets ``gzip``, and its answer is unpacked.
        Leaving early, by cancellation too, closes the connection.
        """
        unpack = not header_values(head.headers, "accept-encoding")
        if unpack:
            headers = (*head.headers, ("Accept-Encoding", "gzip"))
            head = RequestHead(head.method, head.target, headers)
        key = port, _Mode(verify, with_certificate)
        connection, answer = await self._ask_pooled(key, head, body)
        try:
            packed = header_values(answer.headers, "content-encoding") == ["gzip"]
            if unpack and packed:
                plain = without_headers(answer.headers, ("content-encoding", "content-length"))
                answer = ResponseHead(answer.status, plain, answer.reason)
                yield Answer(answer, _unpacked(connection.chunks()))
            else:
                yield Answer(answer, connection.chunks())
        finally:
            self._release(connection, key)

    async def open_upgrade(
        self, port: KubeletPort, head: RequestHead
    ) -> tuple[KubeletConnection, ResponseHead]:
        """Ask over a connection of its own, which from then on is the caller's to close."""
        connection = await self._dial((port, _USUAL), handshake_timeout=UPGRADE_HANDSHAKE_TIMEOUT)
        try:
            return connection, await _ask_or_close(connection, head)
        except KubeletFailure as error:
            if error.sentence != "EOF":
                raise
            raise KubeletFailure("unexpected EOF") from error

    def close(self) -> None:
        """Close what is idle. May be repeated."""
        for connections in self._idle.values():
            for connection, timer in connections.items():
                timer.cancel()
                connection.close()
        self._idle.clear()

    async def _ask_pooled(
        self, key: _Key, head: RequestHead, body: bytes
    ) -> tuple[KubeletConnection, ResponseHead]:
        """A pooled connection may have died unnoticed: a GET is then repeated on a new one."""
        if pooled := self._take_idle(key):
            try:
                return pooled, await _ask_or_close(pooled, head, body)
            except KubeletFailure as error:
                if head.method != "GET" or not error.unanswered:
                    raise
        fresh = await self._dial(key, handshake_timeout=HANDSHAKE_TIMEOUT)
        return fresh, await _ask_or_close(fresh, head, body)

    def _take_idle(self, key: _Key) -> KubeletConnection | None:
        while self._idle[key]:
            connection, timer = self._idle[key].popitem()
            timer.cancel()
            if connection.reusable:
                return connection
            connection.close()
        return None

    def _release(self, connection: KubeletConnection, key: _Key) -> None:
        if not connection.reusable:
            connection.close()
            return
        timer = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._expire, key, connection)
        self._idle[key][connection] = timer

    def _expire(self, key: _Key, connection: KubeletConnection) -> None:
        del self._idle[key][connection]
        connection.close()

    async def _dial(self, key: _Key, *, handshake_timeout: float) -> KubeletConnection:
        port, mode = key
        try:
            connected = await _connect(*(port.dial or (port.host, port.port)))
        except OSError as error:
            words = gotext.dial_fault(error, port.netloc)
            raise KubeletFailure(words, dialing=True) from error
        local = join_address(*connected.getsockname()[:2])
        try:
            reader, writer = await asyncio.open_connection(
                sock=connected,
                limit=READ_SIZE,
                ssl=self._contexts[mode],
                server_hostname=port.host,
                ssl_handshake_timeout=handshake_timeout,
                ssl_shutdown_timeout=CLOSE_TIMEOUT,
            )
        except ConnectionAbortedError as error:
            raise KubeletFailure("net/http: TLS handshake timeout", dialing=True) from error
        except OSError as error:
            words = gotext.stream_fault(error, local, port.netloc)
            raise KubeletFailure(words, dialing=True) from error
        return KubeletConnection(reader, writer, local=local, remote=port.netloc)


async def _ask_or_close(
    connection: KubeletConnection, head: RequestHead, body: bytes = b""
) -> ResponseHead:
    try:
        return await connection.ask(head, body)
    except BaseException:
        connection.close()
        raise


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DIAL_TIMEOUT):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        connecting = socket.socket(family, kind, protocol)
        connecting.setblocking(False)
        try:
            await loop.sock_connect(connecting, address)
        except BaseException:
            connecting.close()
            raise
    return connecting


def _client_context(tls: KubeletTls, mode: _Mode) -> ssl.SSLContext:
    verify = mode.verify and tls.ca is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verify
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if verify:
        context.load_verify_locations(tls.ca)
    if mode.with_certificate:
        context.load_cert_chain(tls.cert, tls.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _unpacked(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    async for chunk in chunks:
        if data := unpacker.decompress(chunk):
            yield data
    if rest := unpacker.flush():
        yield rest
