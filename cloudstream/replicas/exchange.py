"""A request that another replica answers: one HTTP exchange on a connection of its own.

The replica that holds a node's tunnel is called at its stream port with this replica's own stream
certificate. ``Cloudstream-Node`` says which node is meant: the caller has been checked, and the
node found. The other one serves it, or answers with ``Cloudstream-Not-Here`` at once; it never
passes the request on. Everything else of request and answer passes as it is.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import aiofastnet

from cloudstream.replicas.messages import LEAVING, NODE_HEADER, NOT_HERE_HEADER, NodeNotHere
from streamkit.errors import (
    CertError,
    IncompleteAnswer,
    RemoteProtocolError,
    ReplicaUnreachable,
    StreamError,
)
from streamkit.http.answer import AnswerDecoder
from streamkit.pki.contexts import Identity, peer_identity
from streamkit.service.tasks import spawn
from streamkit.session.channel import HIGH_WATER, LOW_WATER, Channel, ChannelHandler
from streamkit.session.reading import Reading
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values, without_headers

Address = tuple[str, int]
"""Host and stream port of a replica."""

_NOBODY = Identity("", ())
_CONNECT = 2.0
"""Seconds for TCP and TLS with another replica: it is near, or it is not there."""
_CLOSE = 2.0
"""Seconds for what is still unsent when a connection is closed."""


class ReplicaDialler:
    """Connects to replicas: whoever shows a certificate with the same identity as ours.

    ``own_identity`` reads ours, and raises CertError where it can't be read.
    """

    def __init__(self, context: ssl.SSLContext, own_identity: Callable[[], Identity]) -> None:
        self._context = context
        self._own_identity = own_identity
        self._identity = own_identity()
        self._tasks: set[asyncio.Task[Any]] = set()

    def use(self, context: ssl.SSLContext) -> None:
        """Connect with this context from now on, and be whom its certificate names."""
        self._context = context
        with contextlib.suppress(CertError):  # another change of the files, which will be seen
            self._identity = self._own_identity()

    def is_replica(self, peercert: Mapping[str, object] | None) -> bool:
        """Whether a verified certificate is a replica's. A name that is empty is nobody's."""
        return self._identity != _NOBODY and peer_identity(peercert) == self._identity

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
            # asyncio's own words for a failed connect are a Python tuple; the resolver's are fine.
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror or str(error)
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
        address: Address,
        node_name: str,
        told: Callable[[StreamError | None], None],
    ) -> None:
        self.address = address
        self.told = told
        """Hears once of each exchange: None when it has begun, or why it has not."""
        self._dialler = dialler
        self._node_name = node_name

    def open(self, request: RequestHead, handler: ChannelHandler, body: bytes = b"") -> Channel:
        """Connect and ask; the body has to be as long as the request announces.

        The handler hears NodeNotHere or ReplicaUnreachable as a reset. After those two the request
        has reached nobody.
        """
        host, port = self.address
        headers = without_headers(request.headers, (NODE_HEADER.lower(),))
        passed = RequestHead(
            request.method, request.target, (*headers, (NODE_HEADER, self._node_name))
        )
        channel = ReplicaChannel(passed, body, host, self._dialler.is_replica, self.told)
        channel.handler = handler
        self._dialler.start(channel, host, port)
        return channel


class ReplicaChannel(Channel, asyncio.Protocol):
    """The connection that carries the exchange."""

    def __init__(
        self,
        request: RequestHead,
        body: bytes,
        host: str,
        is_replica: Callable[[Mapping[str, object] | None], bool],
        told: Callable[[StreamError | None], None],
    ) -> None:
        super().__init__(0, request)
        self._body = body
        self._where = f"the replica at {host}"
        self._is_replica = is_replica
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
        if not self._is_replica(transport.get_extra_info("peercert")):
            sentence = f"{self._where} shows a certificate that is not a replica's"
            self.fail(ReplicaUnreachable(sentence))
            return
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        lines = [f"{self.request.method} {self.request.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.request.headers]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self._transport.write(head + self._body)

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
        if not_here := header_values(head.headers, NOT_HERE_HEADER):
            sentence = f"{self._where} does not hold the node"
            self.fail(NodeNotHere(sentence, is_leaving=LEAVING in not_here))
            return
        self._is_headed = True
        self._told(None)
        self.handler.head_received(head)

    def _close(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(_CLOSE, self._transport.abort)
