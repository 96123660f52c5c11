"""A request that another replica answers: one HTTP exchange on a connection of its own.

The replica that holds a node's tunnel is called at its stream port with this replica's own stream
certificate. ``Cloudstream-Node`` says which node is meant: the caller has been checked, and the
node found. The other one serves it, or answers with ``Cloudstream-Not-Here`` at once; it never
passes the request on. Everything else of request and answer passes as it is.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import aiofastnet

from cloudstream.replicas.messages import NODE_HEADER, NOT_HERE_HEADER, NodeNotHere
from streamkit.errors import (
    IncompleteAnswer,
    RemoteProtocolError,
    ReplicaUnreachable,
    StreamError,
)
from streamkit.http.answer import AnswerDecoder
from streamkit.pki.contexts import Identity, peer_identity
from streamkit.service.reading import Reading
from streamkit.service.tasks import spawn
from streamkit.session.channel import HIGH_WATER, LOW_WATER, Channel, ChannelHandler
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values, without_headers

_CONNECT = 2.0
"""Seconds for TCP and TLS with another replica: it is near, or it is not there."""
_CLOSE = 2.0
"""Seconds for what is still unsent when a connection is closed."""


class ReplicaDialler:
    """Connects to replicas; each side has to show a certificate with the ``identity`` of both."""

    def __init__(self, context: ssl.SSLContext, identity: Identity) -> None:
        self._context = context
        self.identity = identity
        self._tasks: set[asyncio.Task[Any]] = set()

    def use(self, context: ssl.SSLContext) -> None:
        """Connect with this context from now on; its certificate has to have the same identity."""
        self._context = context

    def start(self, channel: "ReplicaChannel", host: str, port: int) -> None:
        """Connect for the channel, whose handler hears what becomes of it."""
        spawn(self._connect(channel, host, port), name="replica", owner=self._tasks)

    async def _connect(self, channel: "ReplicaChannel", host: str, port: int) -> None:
        why = ""
        try:
            async with asyncio.timeout(_CONNECT):
                await aiofastnet.create_connection(
                    asyncio.get_running_loop(),
                    lambda: channel,
                    host,
                    port,
                    ssl=self._context,
                    server_hostname=host,
                    ssl_shutdown_timeout=_CLOSE,
                )
        except TimeoutError:
            why = "it did not answer in time"
        except ssl.SSLError as error:
            why = f"TLS failed: {(error.reason or 'no reason given').lower().replace('_', ' ')}"
        except OSError as error:
            why = error.strerror or type(error).__name__
        if why:
            channel.fail(ReplicaUnreachable(f"the replica at {host} can't be reached: {why}"))

    async def close(self) -> None:
        """End what is being dialled. Idempotent."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class ReplicaSession:
    """Opens channels towards one node at one replica."""

    carries_pod_facts = True

    def __init__(
        self,
        dialler: ReplicaDialler,
        address: tuple[str, int],
        node_name: str,
        told: Callable[[StreamError | None], None],
    ) -> None:
        self._dialler = dialler
        self._address = address
        self._node_name = node_name
        self._told = told

    def open(self, request: RequestHead, handler: ChannelHandler) -> Channel:
        """Connect and ask; the handler hears NodeNotHere or ReplicaUnreachable as a reset.

        After those two the request has reached nobody.
        """
        host, port = self._address
        headers = without_headers(request.headers, (NODE_HEADER.lower(),))
        passed = RequestHead(
            request.method, request.target, (*headers, (NODE_HEADER, self._node_name))
        )
        channel = ReplicaChannel(passed, host, self._dialler.identity, self._told)
        channel.handler = handler
        self._dialler.start(channel, host, port)
        return channel


class ReplicaChannel(Channel, asyncio.Protocol):
    """The connection that carries the exchange."""

    def __init__(
        self,
        request: RequestHead,
        host: str,
        identity: Identity,
        told: Callable[[StreamError | None], None],
    ) -> None:
        super().__init__(0, request)
        self._where = f"the replica at {host}"
        self._identity = identity
        self._told = told
        self._decoder = AnswerDecoder(request)
        self._transport: Any = None
        self._reading: Reading | None = None
        self._is_headed = False
        self._is_over = False
        self._held = 0

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._reading = Reading(self._transport)
        if self._is_over:
            self._transport.abort()
            return
        if peer_identity(transport.get_extra_info("peercert")) != self._identity:
            sentence = f"{self._where} shows a certificate that is not a replica's"
            self.fail(ReplicaUnreachable(sentence))
            return
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        lines = [f"{self.request.method} {self.request.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.request.headers]
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def data_received(self, data: bytes) -> None:
        self._decode(lambda: self._decoder.feed(data))

    def eof_received(self) -> bool:
        self._decode(self._decoder.feed_eof)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_headed:
            self.fail(
                IncompleteAnswer(
                    f"{self._where} closed the connection without an answer",
                    hint="maybe it does not accept our certificate: its log says why",
                )
            )
        else:
            self.fail(IncompleteAnswer(f"{self._where} broke the answer off"))

    def pause_writing(self) -> None:
        if not self._is_over:
            self.is_paused = True
            self.handler.pause_writing()

    def resume_writing(self) -> None:
        if not self._is_over:
            self.is_paused = False
            self.handler.resume_writing()

    # -- Channel -------------------------------------------------------------------------------

    def send_head(self, head: ResponseHead) -> None:
        """Only edges send heads."""

    def write(self, data: bytes | memoryview) -> None:
        if not self._is_over and self._transport:
            self._transport.write(data)

    def end(self) -> None:
        """A caller's connection has no half-close, so there is none to pass on."""

    def reset(self, error: StreamError) -> None:
        self._is_over = True
        self._close()

    def consumed(self, size: int) -> None:
        self._held -= size
        if self._reading and self._reading.is_paused and self._held <= LOW_WATER:
            self._reading.resume()

    # -- inside --------------------------------------------------------------------------------

    def fail(self, error: StreamError) -> None:
        """The exchange is broken off: the handler hears why, once."""
        if self._is_over:
            return
        self._is_over = True
        if not self._is_headed:
            self._told(error)
        self._close()
        self.handler.reset_received(error)

    def _decode(self, feed: Callable[[], list[ResponseHead | bytes | memoryview]]) -> None:
        if self._is_over:
            return
        try:
            pieces = feed()
        except RemoteProtocolError:
            self.fail(IncompleteAnswer(f"{self._where} sent an answer that is no HTTP"))
            return
        except IncompleteAnswer:
            self.connection_lost(None)
            return
        for piece in pieces:
            if isinstance(piece, ResponseHead):
                self._take_head(piece)
            elif not self._is_over:
                self._held += len(piece)
                self.handler.data_received(piece)
        self._follow()

    def _follow(self) -> None:
        """See whether that was the end, or as much as may be held."""
        if self._is_over:
            return
        if self._decoder.is_complete:
            self._is_over = True
            self._close()
            self.handler.end_received()
        elif self._reading and self._held > HIGH_WATER:
            self._reading.pause()

    def _take_head(self, head: ResponseHead) -> None:
        if header_values(head.headers, NOT_HERE_HEADER):
            self.fail(NodeNotHere(f"{self._where} does not hold the node"))
            return
        self._is_headed = True
        self._told(None)
        self.handler.head_received(head)

    def _close(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(_CLOSE, self._transport.abort)
