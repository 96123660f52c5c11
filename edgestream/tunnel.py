"""The edge's end of one tunnel: a WebSocket that carries a session's messages.

The only module that knows the websockets library.
"""

import asyncio
import logging
import socket
import ssl
from dataclasses import dataclass
from ipaddress import ip_address

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
)
from websockets.typing import Subprotocol

from streamkit.errors import (
    DialFailed,
    HandshakeRejected,
    HeartbeatTimeout,
    StreamError,
    TunnelClosed,
    TunnelLost,
    TunnelReplaced,
    UntrustedPeer,
)
from streamkit.session.close_codes import CloseCode, close_code_of
from streamkit.session.session import Session
from streamkit.wire.v2_message import SESSION_HEADER, SUBPROTOCOL

log = logging.getLogger(__name__)

CONNECT_PATH = "/v1/kubeedge/connect"
FIRST_SIGN_DEADLINE = 125.0
"""A stock cloud reads nothing, and so answers no ping, while it writes the node's status: up to
120 s after connecting (KubeEdge ``cloud/pkg/cloudstream/tunnelserver.go``)."""

_LAST_WORD = 0.5
"""Seconds to tell a cloud that was silent that this end gives up."""

_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
_UNSENT_IN_KERNEL = 128 * 1024
_WRITE_BUFFER = 64 * 1024


@dataclass(frozen=True, slots=True)
class TunnelOptions:
    """Whom to dial and how long to wait (seconds)."""

    server: str
    server_name: str
    node_name: str
    node_ip: str
    handshake: float
    heartbeat: float
    silence: float
    write: float
    close: float
    max_message: int


async def dial(
    options: TunnelOptions, context: ssl.SSLContext, *, session_token: str
) -> ClientConnection:
    """Connect, verify the cloud, and register this node; ``session_token`` names what to resume.

    Raises UntrustedPeer, HandshakeRejected or DialFailed; each says what the cloud, or the network,
    did. ``HTTPS_PROXY`` and ``NO_PROXY`` are honoured, except for loopback addresses.
    """
    host = options.server.rpartition(":")[0].strip("[]")
    headers = {
        "SessionHostNameOverride": options.node_name,
        "SessionInternalIP": options.node_ip or local_address(options.server),
    }
    if session_token:
        headers[SESSION_HEADER] = session_token
    try:
        connection = await connect(
            f"wss://{options.server}{CONNECT_PATH}",
            ssl=context,
            server_hostname=options.server_name or host,
            additional_headers=headers,
            user_agent_header="edgestream",
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=None if _is_loopback(host) else True,
            open_timeout=options.handshake,
            close_timeout=options.close,
            ping_interval=None,
            max_size=options.max_message,
            max_queue=16,
            write_limit=_WRITE_BUFFER,
        )
    except (OSError, InvalidHandshake, InvalidProxy, ConnectionClosed, EOFError) as error:
        raise _dial_error(options.server, error) from error
    sock = connection.transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_IN_KERNEL)
    return connection


def local_address(server: str) -> str:
    """The address that this host uses towards the server; empty where it has no route there."""
    host, _, port = server.rpartition(":")
    try:
        family, kind, _, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM
        )[0]
        # Connecting a datagram socket sends nothing; it only chooses the route.
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except (OSError, ValueError):
        return ""


class Tunnel:
    """Drives a session over one connection: one reader, one writer, one heartbeat."""

    def __init__(
        self, connection: ClientConnection, session: Session, options: TunnelOptions
    ) -> None:
        self._connection = connection
        self._session = session
        self._options = options
        self._has_output = asyncio.Event()
        self._signs_of_life = 0

    async def run(self) -> None:
        """Carry the session until the tunnel ends, which always raises: why it ended.

        Raises TunnelLost or HeartbeatTimeout where the session may go on over another tunnel;
        TunnelClosed, TunnelReplaced, HandshakeRejected or a RemoteProtocolError where it may not.
        Cancelling closes the tunnel with a code for shutting down. The session is left to the
        caller.
        """
        self._session.output_ready = self._has_output.set
        self._session.attach()
        self._has_output.set()
        why: StreamError = TunnelClosed("the edge agent shuts down")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(), name="tunnel reader")
                group.create_task(self._write(), name="tunnel writer")
                group.create_task(self._beat(), name="tunnel heartbeat")
        except BaseExceptionGroup as failures:
            why = _first_stream_error(failures)
            raise why from None
        finally:
            self._session.output_ready = lambda: None
            self._session.detach()
            await self._close(why)

    async def _read(self) -> None:
        try:
            while True:
                payload = await self._connection.recv(decode=False)
                self._signs_of_life += 1
                self._session.message_received(payload)
        except ConnectionClosed as closed:
            raise _closed_error(closed) from closed

    async def _write(self) -> None:
        try:
            while True:
                await self._has_output.wait()
                self._has_output.clear()
                while (message := self._session.next_message()) is not None:
                    async with asyncio.timeout(self._options.write):
                        await self._connection.send(message, text=self._session.is_text)
        except ConnectionClosed as closed:
            raise _closed_error(closed) from closed
        except TimeoutError:
            sentence = f"the cloud took nothing for {self._options.write:g} s"
            raise HeartbeatTimeout(sentence) from None

    async def _beat(self) -> None:
        silence, seen = 0.0, self._signs_of_life
        limit = FIRST_SIGN_DEADLINE
        try:
            while silence < limit:
                pong = asyncio.ensure_future(await self._connection.ping())
                await asyncio.wait((pong,), timeout=self._options.heartbeat)
                if pong.done():
                    self._session.round_trip_measured(pong.result())
                if pong.done() or self._signs_of_life != seen:
                    silence, seen = 0.0, self._signs_of_life
                    limit = self._options.silence
                    await asyncio.sleep(self._options.heartbeat)
                else:
                    silence += self._options.heartbeat
        except ConnectionClosed as closed:
            raise _closed_error(closed) from closed
        raise HeartbeatTimeout(f"the cloud was silent for {silence:g} s")

    async def _close(self, why: StreamError) -> None:
        deadline = _LAST_WORD if isinstance(why, HeartbeatTimeout) else self._options.close
        try:
            async with asyncio.timeout(deadline):
                await self._connection.close(close_code_of(why), str(why)[:100])
        except TimeoutError:
            self._connection.transport.abort()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _first_stream_error(failures: BaseExceptionGroup[BaseException]) -> StreamError:
    for failure in failures.exceptions:
        if isinstance(failure, StreamError):
            return failure
    log.error("the tunnel failed unexpectedly", exc_info=failures)
    return TunnelClosed(f"internal error: {type(failures.exceptions[0]).__name__}")


def _closed_error(closed: ConnectionClosed) -> StreamError:
    frame = closed.rcvd
    if frame is None:
        return TunnelLost("the connection to the cloud was lost")
    reason = frame.reason or f"code {frame.code}"
    if frame.code == CloseCode.REPLACED:
        return TunnelReplaced(f"the cloud closed the tunnel: {reason}")
    if frame.code == CloseCode.UNAUTHORISED:
        return HandshakeRejected(f"the cloud closed the tunnel: {reason}")
    if frame.code in (CloseCode.DRAINING, CloseCode.HEARTBEAT):
        return TunnelLost(f"the cloud closed the tunnel: {reason}")
    return TunnelClosed(f"the cloud closed the tunnel: {reason}")


def _dial_error(server: str, error: Exception) -> StreamError:
    if isinstance(error, InvalidStatus):
        body = bytes(error.response.body or b"")[:200].decode(errors="replace").strip()
        status = error.response.status_code
        return HandshakeRejected(f"the cloud at {server} refused this node: {status} {body}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return UntrustedPeer(
            f"the certificate of the cloud at {server} is not trusted: {error.verify_message}",
            hint="tlsTunnelCAFile must be the CA that issued it, and it must name the server",
        )
    cause = error.__cause__ if isinstance(error, InvalidMessage | EOFError) else error
    if isinstance(cause, ssl.SSLError) and cause.reason:
        words = cause.reason.lower().replace("_", " ")
        return UntrustedPeer(
            f"the TLS handshake with the cloud at {server} failed: {words}",
            hint="check that the port speaks TLS and that its CA issued this node's certificate",
        )
    if isinstance(error, TimeoutError):
        return DialFailed(f"the cloud at {server} did not answer in time")
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DialFailed(f"the cloud at {server} can't be reached: {why}")
