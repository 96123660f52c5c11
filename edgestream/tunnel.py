"""Dialling the cloud: what an edge says in the handshake, and how it reads the refusals.

The WebSocket itself is picows' where a wheel of it exists, else the websockets library's, which
runs everywhere and costs more.
"""

import errno
import importlib.util
import os
import re
import socket
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from streamkit.errors import (
    DialFailed,
    HandshakeRejected,
    StreamError,
    TunnelClosed,
    TunnelLost,
    TunnelReplaced,
    UntrustedPeer,
)
from streamkit.session.close_codes import CloseCode
from streamkit.session.session import Session
from streamkit.wire.message import CONNECT_PATH, NODE_IP_HEADER, NODE_NAME_HEADER
from streamkit.wire.v2_message import SESSION_HEADER

USER_AGENT = "edgestream"
FIRST_SIGN_DEADLINE = 125.0
"""A stock cloud reads nothing, and so answers no ping, while it writes the node's status: up to
120 s after connecting (KubeEdge ``cloud/pkg/cloudstream/tunnelserver.go``)."""
_WANTS_CREDENTIALS = re.compile(r"proxy rejected connection\D*407$")
"""What both libraries say of a proxy's 407, of which one keeps the status nowhere else."""


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

    @property
    def host(self) -> str:
        """The host of ``server``, an IPv6 literal without its brackets."""
        return self.server.rpartition(":")[0].strip("[]")

    @property
    def url(self) -> str:
        """What is dialled."""
        return f"wss://{self.server}{CONNECT_PATH}"


class DialledTunnel(Protocol):
    """A tunnel that is open and carries nothing yet."""

    @property
    def subprotocol(self) -> str:
        """What the cloud chose; empty for a stock cloud."""

    async def run(self, session: Session) -> None:
        """Carry the session until the tunnel ends, which always raises: why it ended.

        Raises TunnelLost or HeartbeatTimeout where the session may go on over another tunnel;
        TunnelClosed, TunnelReplaced, HandshakeRejected or a RemoteProtocolError where it may not.
        Cancelling closes the tunnel with a code for shutting down. The session is left to the
        caller.
        """


async def dial(
    options: TunnelOptions, context: ssl.SSLContext, *, session_token: str
) -> DialledTunnel:
    """Connect, verify the cloud, and register this node; ``session_token`` names what to resume.

    Raises UntrustedPeer, HandshakeRejected or DialFailed; each says what the cloud, or the network,
    did. ``HTTPS_PROXY`` and ``NO_PROXY`` are honoured, except for loopback addresses.
    """
    headers = {
        NODE_NAME_HEADER: options.node_name,
        NODE_IP_HEADER: options.node_ip or local_address(options.server),
    }
    if session_token:
        headers[SESSION_HEADER] = session_token
    if has_picows():
        from edgestream import tunnel_picows

        return await tunnel_picows.dial(options, context, headers)
    from edgestream import tunnel_websockets

    return await tunnel_websockets.dial(options, context, headers)


def has_picows() -> bool:
    """Whether the fast library is installed here."""
    return importlib.util.find_spec("picows") is not None


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


def proxy_of(options: TunnelOptions) -> str | None:
    """The proxy that the environment names for the cloud, if it does."""
    if _is_loopback(options.host) or proxy_bypass(options.host):
        return None
    proxies = getproxies()
    return proxies.get("https") or proxies.get("all")


def _proxy_address(options: TunnelOptions) -> str:
    """Where the proxy is, without the credentials that its URL may hold; empty without a proxy."""
    return urlsplit(proxy_of(options) or "").netloc.rpartition("@")[2]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def closed_error(code: int, reason: str) -> StreamError:
    """What the cloud's close frame means."""
    sentence = f"the cloud closed the tunnel: {reason or f'code {code}'}"
    if code == CloseCode.REPLACED:
        return TunnelReplaced(sentence)
    if code == CloseCode.UNAUTHORISED:
        return HandshakeRejected(sentence)
    if code in (CloseCode.DRAINING, CloseCode.HEARTBEAT):
        return TunnelLost(sentence)
    return TunnelClosed(sentence)


def refused_error(server: str, status: int, body: bytes) -> StreamError:
    """What the cloud's answer to the handshake means, where it is no 101."""
    text = body[:200].decode(errors="replace").strip()
    if status == 503:
        return DialFailed(f"the cloud at {server} takes nobody for now: {text}")
    return HandshakeRejected(f"the cloud at {server} refused this node: {status} {text}")


def unanswered_error(server: str) -> StreamError:
    """The cloud hung up before it answered. A TLS 1.3 server that refuses a client does so."""
    return DialFailed(
        f"the cloud at {server} closed the connection without an answer: maybe it does not accept"
        " this node's certificate, its log says why"
    )


def dial_error(options: TunnelOptions, error: BaseException) -> StreamError:
    """What a failure on the way to the cloud means."""
    server, proxy = options.server, _proxy_address(options)
    by = f" by the proxy at {proxy}" if proxy else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return UntrustedPeer(
            f"the certificate of the cloud at {server} is not trusted: {error.verify_message}",
            hint="tlsTunnelCAFile must be the CA that issued it, and it must name the server; "
            "whatever ends TLS on the way (a balancer, a proxy) has to pass the port through",
        )
    cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
    if isinstance(cause, ssl.SSLError) and cause.reason:
        words = cause.reason.lower().replace("_", " ")
        return UntrustedPeer(
            f"the TLS handshake with the cloud at {server} failed: {words}",
            hint="check that the port speaks TLS and that its CA issued this node's certificate",
        )
    if isinstance(error, TimeoutError):
        return DialFailed(f"the cloud at {server} did not answer in time{by}")
    if proxy and _WANTS_CREDENTIALS.search(str(error)):
        return DialFailed(
            f"the cloud at {server} can't be reached: the proxy at {proxy} wants credentials",
            hint="HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
        )
    number = getattr(error, "errno", None) or 0
    if isinstance(error, ConnectionResetError):  # which the TLS library raises without a word
        number = errno.ECONNRESET
    # asyncio's own words for a failed connect are a Python tuple; those of the resolver are fine.
    why = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
    return DialFailed(f"the cloud at {server} can't be reached{by}: {why or type(error).__name__}")
