"""The edge's end of a tunnel over the websockets library, for machines without picows.

The only module that knows that library.
"""

import asyncio
import logging
import ssl
import traceback
from collections.abc import Mapping

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidStatus
from websockets.typing import Subprotocol

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
from streamkit.errors import (
    HeartbeatTimeout,
    LocalProtocolError,
    RemoteProtocolError,
    StreamError,
    TunnelClosed,
    TunnelLost,
)
from streamkit.session.close_codes import close_code_of, close_reason_of
from streamkit.session.kernel import bound_unsent, progress
from streamkit.session.session import Session
from streamkit.wire.v2_message import SUBPROTOCOL

log = logging.getLogger(__name__)

_LAST_WORD = 0.5
"""Seconds to tell a cloud that was silent that this end gives up."""

_WRITE_BUFFER = 64 * 1024


async def dial(
    options: TunnelOptions, context: ssl.SSLContext, headers: Mapping[str, str]
) -> "WebsocketsTunnel":
    """Connect and register. Raises UntrustedPeer, HandshakeRejected or DialFailed."""
    try:
        connection = await connect(
            options.url,
            ssl=context,
            server_hostname=options.server_name or options.host,
            additional_headers=headers,
            user_agent_header=USER_AGENT,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=proxy_of(options),
            open_timeout=options.handshake,
            close_timeout=options.close,
            ping_interval=None,
            max_size=options.max_message,
            max_queue=16,
            write_limit=_WRITE_BUFFER,
        )
    except InvalidStatus as error:
        response = error.response
        raise refused_error(
            options.server, response.status_code, bytes(response.body or b"")
        ) from error
    except (OSError, InvalidHandshake, InvalidProxy, ConnectionClosed, EOFError) as error:
        if isinstance(error.__cause__, EOFError):
            raise unanswered_error(options.server) from error
        raise dial_error(options, error) from error
    bound_unsent(connection.transport.get_extra_info("socket"))
    return WebsocketsTunnel(connection, options)


class WebsocketsTunnel:
    """Drives a session over one connection: one reader, one writer, one heartbeat."""

    def __init__(self, connection: ClientConnection, options: TunnelOptions) -> None:
        self._connection = connection
        self._options = options
        self._has_output = asyncio.Event()
        self._messages = 0

    @property
    def subprotocol(self) -> str:
        return self._connection.subprotocol or ""

    async def run(self, session: Session) -> None:
        session.output_ready = self._has_output.set
        session.attach()
        self._has_output.set()
        why: StreamError = TunnelClosed("the edge agent shuts down")
        try:
            async with asyncio.TaskGroup() as group:
                # The first ping goes before all else, to measure the link while it is empty.
                group.create_task(self._beat(session), name="tunnel heartbeat")
                group.create_task(self._read(session), name="tunnel reader")
                group.create_task(self._write(session), name="tunnel writer")
        except BaseExceptionGroup as failures:
            why = _first_stream_error(failures)
            raise why from None
        finally:
            session.output_ready = lambda: None
            session.detach()
            await self._close(why)

    async def _read(self, session: Session) -> None:
        try:
            while True:
                payload = await self._connection.recv(decode=False)
                self._messages += 1
                session.message_received(payload)
        except ConnectionClosed as closed:
            raise _closed_error(closed) from closed

    async def _write(self, session: Session) -> None:
        try:
            while True:
                await self._has_output.wait()
                self._has_output.clear()
                while (message := session.next_message()) is not None:
                    async with asyncio.timeout(self._options.write):
                        await self._connection.send(b"".join(message), text=session.is_text)
        except ConnectionClosed as closed:
            raise _closed_error(closed) from closed
        except TimeoutError:
            sentence = f"the cloud took nothing for {self._options.write:g} s"
            raise HeartbeatTimeout(sentence) from None

    async def _beat(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        hello_due = loop.time() + self._options.handshake
        silence, seen = 0.0, self._signs_of_life()
        limit = FIRST_SIGN_DEADLINE
        try:
            while silence < limit:
                if not session.is_greeted and loop.time() >= hello_due:
                    sentence = f"the cloud said no hello within {self._options.handshake:g} s"
                    raise HeartbeatTimeout(sentence)
                pong = asyncio.ensure_future(await self._connection.ping())
                await asyncio.wait((pong,), timeout=self._options.heartbeat)
                if pong.done():
                    session.round_trip_measured(pong.result())
                if pong.done() or self._signs_of_life() != seen:
                    silence, seen = 0.0, self._signs_of_life()
                    limit = self._options.silence
                    await asyncio.sleep(self._options.heartbeat)
                else:
                    silence += self._options.heartbeat
        except ConnectionClosed as closed:
            raise _closed_error(closed) from closed
        raise HeartbeatTimeout(f"the cloud was silent for {silence:g} s")

    def _signs_of_life(self) -> tuple[int, int]:
        _, received = progress(self._connection.transport.get_extra_info("socket"))
        return self._messages, received

    async def _close(self, why: StreamError) -> None:
        deadline = _LAST_WORD if isinstance(why, HeartbeatTimeout) else self._options.close
        try:
            async with asyncio.timeout(deadline):
                await self._connection.close(close_code_of(why), close_reason_of(why))
        except TimeoutError:
            self._connection.transport.abort()


def _first_stream_error(failures: BaseExceptionGroup[BaseException]) -> StreamError:
    for failure in failures.exceptions:
        if isinstance(failure, StreamError):
            return failure
    error = failures.exceptions[0]
    place, name = traceback.extract_tb(error.__traceback__)[-1], type(error).__name__
    log.error("the tunnel failed: %s at %s:%s", name, place.filename, place.lineno)
    return LocalProtocolError(f"internal error: {name}")


def _closed_error(closed: ConnectionClosed) -> StreamError:
    if closed.sent is not None and not closed.rcvd_then_sent:
        # The library gave the connection up: what came was no WebSocket frame, or a too large one.
        return RemoteProtocolError(f"the cloud broke the rules of WebSocket: {closed.sent.reason}")
    if closed.rcvd is None:
        return TunnelLost("the connection to the cloud was lost")
    return closed_error(closed.rcvd.code, closed.rcvd.reason)
