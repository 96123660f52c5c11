"""The edge's end of a tunnel over picows: as the cloud's, without a task switch per message."""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping

from picows import WSError, WSInvalidStatusError, WSTransport, ws_connect
from python_socks import ProxyError

from edgestream.tunnel import (
    FIRST_SIGN_DEADLINE,
    USER_AGENT,
    TunnelOptions,
    closed_error,
    dial_error,
    proxy_of,
    refused_error,
    unanswered_error,
)
from streamkit.errors import StreamError, TunnelClosed, TunnelLost
from streamkit.session.session import Session
from streamkit.session.socket import SocketLimits, TunnelSocket
from streamkit.wire.v2_message import SUBPROTOCOL


async def dial(
    options: TunnelOptions, context: ssl.SSLContext, headers: Mapping[str, str]
) -> "PicowsTunnel":
    """Connect and register. Raises UntrustedPeer, HandshakeRejected or DialFailed."""
    limits = SocketLimits(
        options.handshake,
        options.heartbeat,
        silence=options.silence,
        first_sign=FIRST_SIGN_DEADLINE,
        write=options.write,
        max_message=options.max_message,
    )
    more = {"User-Agent": USER_AGENT, "Sec-WebSocket-Protocol": SUBPROTOCOL, **headers}
    try:
        async with asyncio.timeout(options.handshake):
            transport, listener = await ws_connect(
                lambda: PicowsTunnel(limits),
                options.url,
                ssl_context=context,
                server_hostname=options.server_name or options.host,
                websocket_handshake_timeout=options.handshake,
                enable_auto_pong=False,
                max_frame_size=options.max_message,
                extra_headers=more,
                max_redirects=0,
                proxy=proxy_of(options),
            )
    except WSInvalidStatusError as error:
        status = error.response.status if error.response else 0
        raise refused_error(options.server, int(status), error.raw_body or b"") from error
    except (OSError, WSError, ProxyError, EOFError) as error:
        raise dial_error(options, error) from error
    if not isinstance(listener, PicowsTunnel):
        # picows returns no listener where the connection ended before its handshake did.
        raise unanswered_error(options.server)
    chosen = transport.response.headers.get("Sec-WebSocket-Protocol", "")
    listener.subprotocol = chosen
    return listener


class PicowsTunnel(TunnelSocket):
    """One tunnel to the cloud."""

    def __init__(self, limits: SocketLimits) -> None:
        super().__init__(limits)
        self._end_of_tunnel: asyncio.Future[StreamError] = (
            asyncio.get_running_loop().create_future()
        )
        self.subprotocol = ""

    async def run(self, session: Session) -> None:
        self.carry(session)
        try:
            error = await asyncio.shield(self._end_of_tunnel)
        except asyncio.CancelledError:
            self.hang_up(TunnelClosed("the edge agent shuts down"), will_return=False)
            raise
        finally:
            session.output_ready = lambda: None
            session.detach()
        raise error

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        super().on_ws_disconnected(transport)
        asyncio.get_running_loop().call_soon(_take_reason, transport)

    def connected(self) -> None:
        """The session is chosen after the handshake."""

    def ended(self, error: StreamError, *, will_return: bool) -> None:
        if not self._end_of_tunnel.done():
            self._end_of_tunnel.set_result(error)

    def close_received(self, code: int, reason: str) -> tuple[StreamError, bool]:
        error = closed_error(code, reason)
        return error, isinstance(error, TunnelLost)

    def lost(self) -> tuple[StreamError, bool]:
        return TunnelLost("the connection to the cloud was lost"), True


def _take_reason(transport: WSTransport) -> None:
    """picows leaves the error that ended a connection to a waiter: there has to be one.

    Else asyncio logs the error, with a traceback.
    """
    waiter = transport.wait_disconnected()
    try:
        with contextlib.suppress(Exception):
            waiter.send(None)
    finally:
        waiter.close()
