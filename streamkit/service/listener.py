"""A TLS listener that says why a handshake failed, and with whom.

asyncio's own servers drop failed handshakes without a word; here each costs one log line, and never
the listener. The transports are aiofastnet's: the same interface, with a copy less on each way.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiofastnet

from streamkit.errors import PortInUse

log = logging.getLogger(__name__)

_BACKLOG = 1024
_ACCEPT_PAUSE = 1.0
"""Seconds to wait when the process has no file descriptor left for a new connection."""

_PLAIN_WORDS = {
    "HTTP_REQUEST": "it spoke plain HTTP on a TLS port",
    "WRONG_VERSION_NUMBER": "it spoke no TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no client certificate",
    "CERTIFICATE_VERIFY_FAILED": "its client certificate is not from the configured CA",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust our certificate's CA",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refused our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refused our certificate",
    "UNSUPPORTED_PROTOCOL": "it offered only TLS versions older than 1.2",
    "NO_SHARED_CIPHER": "it offered no cipher suite that fits our key",
}
_VERIFY_WORDS = {  # openssl/x509_vfy.h
    9: "its client certificate is not valid yet",
    10: "its client certificate has expired",
}


class TlsListener:
    """Accepts connections on one port and completes their TLS handshakes side by side."""

    def __init__(
        self,
        name: str,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        handshake_deadline: float,
        close_deadline: float,
    ) -> None:
        self._name = name
        self._context = context
        self._factory = factory
        self._listening: list[socket.socket] = []
        self._deadlines: dict[str, Any] = {
            "ssl_handshake_timeout": handshake_deadline,
            "ssl_shutdown_timeout": close_deadline,
        }

    def use(self, context: ssl.SSLContext) -> None:
        """Have the handshakes that begin from now on use another context."""
        self._context = context

    def bind(self, host: str, port: int) -> None:
        """Take the port; an empty host means all addresses, IPv6 and IPv4.

        Raises PortInUse, which names the port, where it can't be had.
        """
        self._listening.append(listen(self._name, host, port))

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._listening[0].getsockname()[1])

    @property
    def is_open(self) -> bool:
        """Whether the port is still held."""
        return all(sock.fileno() >= 0 for sock in self._listening)

    async def serve(self) -> None:
        """Accept until cancelled. Established connections belong to their protocols."""
        asyncio.get_running_loop().set_exception_handler(_report)
        try:
            async with asyncio.TaskGroup() as group:
                for sock in self._listening:
                    group.create_task(self._accept(sock, group), name=f"{self._name} accept")
        finally:
            self.close()

    def close(self) -> None:
        """Give the port back. Idempotent."""
        for sock in self._listening:
            sock.close()

    async def _accept(self, sock: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.error("%s: can't accept: %s", self._name, error.strerror)
                    await asyncio.sleep(_ACCEPT_PAUSE)
                elif sock.fileno() < 0:
                    return
                continue
            group.create_task(self._handshake(connection, address), name=f"{self._name} handshake")

    async def _handshake(self, connection: socket.socket, address: Any) -> None:
        with contextlib.suppress(OSError):  # who has left already is met with below
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await self.shake_hands(connection, f"{address[0]}:{address[1]}", self._factory)

    async def shake_hands(
        self,
        connection: socket.socket,
        peer: str,
        factory: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        """Complete the TLS handshake of a connection that came here in another way.

        What fails is told in the log, where the other end is called ``peer``. The connection is
        the protocol's, or closed.
        """
        try:
            await aiofastnet.connect_accepted_socket(
                asyncio.get_running_loop(),
                factory,
                connection,
                ssl=self._context,
                **self._deadlines,
            )
        except ssl.SSLError as error:
            log.warning("%s: refused %s: %s", self._name, peer, _words(error))
        except TimeoutError:
            log.warning("%s: refused %s: no TLS handshake in time", self._name, peer)
        except OSError as error:
            log.debug("%s: %s left during the TLS handshake: %r", self._name, peer, error)
        else:
            return
        connection.close()


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _VERIFY_WORDS:
        return _VERIFY_WORDS[error.verify_code]
    reason = (error.reason or "").upper()
    return _PLAIN_WORDS.get(reason) or reason.lower().replace("_", " ") or "TLS failed"


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's own report of a failed handshake would be a second one, over several lines."""
    if context.get("message") != "SSL handshake failed":
        loop.default_exception_handler(context)


def listen(name: str, host: str, port: int) -> socket.socket:
    """A socket that listens there; an empty host means all addresses, IPv6 and IPv4.

    Raises PortInUse, which calls it by that name, where the port can't be had.
    """
    try:
        if host:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        elif socket.has_dualstack_ipv6():
            sock = socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
        else:
            sock = socket.create_server(("", port), backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number else str(error)
        raise PortInUse(
            f"the {name} can't listen on {host or 'all addresses'}, port {port}: {why}",
            hint=f"see who has it with: ss -lntp 'sport = :{port}'",
        ) from error
    sock.setblocking(False)
    return sock
