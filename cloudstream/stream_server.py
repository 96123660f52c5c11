"""The stream port, 10003: where API servers come with kubelet requests."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import parse_qs

from cloudstream.callers import ANY_NODE, Callers
from cloudstream.config import CloudDeadlines, CloudLimits
from cloudstream.kube.review import User
from cloudstream.kubelet_path import Subject
from cloudstream.node_session import NodeSession
from cloudstream.relay import Relay
from cloudstream.router import Router
from cloudstream.stream_connection import StreamConnection
from streamkit.errors import Draining, LocalProtocolError, RouteError, TooManyRequests
from streamkit.service.tally import RequestTally, short_durations
from streamkit.wire.exchange import RequestHead, without_headers
from streamkit.wire.pod_facts import PodFacts, with_facts

log = logging.getLogger(__name__)


class StreamServer:
    """Answers every request of every connection. ``run`` owns the tasks of all of them."""

    def __init__(
        self, callers: Callers, router: Router, deadlines: CloudDeadlines, limits: CloudLimits
    ) -> None:
        self.tally = RequestTally()
        self.opening = short_durations()
        """How long requests waited for their edge's answer, or for a refusal."""
        self._callers = callers
        self._router = router
        self._deadlines = deadlines
        self._limits = limits
        self._group: asyncio.TaskGroup | None = None
        self._connections: set[StreamConnection] = set()
        self._opening = 0
        self._finite: set[asyncio.Task[None] | None] = set()
        self._is_draining = False

    async def run(self) -> None:
        """Hold the requests' tasks until cancelled; then end every connection."""
        async with asyncio.TaskGroup() as self._group:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None
                for connection in tuple(self._connections):
                    connection.close()

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused."""
        return self._is_draining

    async def finish(self, *, within: float) -> None:
        """Refuse new requests, and wait for those that end by themselves.

        Takes ``within`` seconds at most. Upgraded streams and followed logs are not waited for.
        """
        self._is_draining = True
        if tasks := [task for task in self._finite if task]:
            log.info("waiting for %d requests to be answered", len(tasks))
            await asyncio.wait(tasks, timeout=within)

    async def drain(self, *, within: float) -> None:
        """Wait until every connection is over, each when its request has been answered.

        Takes ``within`` seconds at most; what is left then is for ``run`` to end.
        """
        for connection in tuple(self._connections):
            connection.leave()
        if lost := [connection.lost for connection in self._connections]:
            await asyncio.wait(lost, timeout=within)

    def connection(self, *, dialled: str = "", peer: str = "") -> StreamConnection:
        """The protocol of a connection that has just been accepted.

        ``dialled`` is the host that was asked for and ``peer`` the caller's name, where the socket
        can't tell.
        """
        return StreamConnection(
            self._serve,
            self._spawn,
            self._connections,
            self._deadlines,
            max_head_bytes=self._limits.max_head_bytes,
            dialled=dialled,
            peer=peer,
        )

    async def _serve(
        self, connection: StreamConnection, request: RequestHead, subject: Subject, relay: Relay
    ) -> None:
        with self.tally.request(request.path) as exchange:
            try:
                await self._serve_counted(connection, request, subject, relay)
            finally:
                exchange.status = relay.status

    async def _serve_counted(
        self, connection: StreamConnection, request: RequestHead, subject: Subject, relay: Relay
    ) -> None:
        user = await self._callers.check(connection.peercert, request)
        if self._is_draining:
            raise Draining("the cloud service is stopping")
        task = asyncio.current_task()
        if _is_finite(request):
            self._finite.add(task)
        try:
            await self._serve_admitted(connection, user, without_secrets(request), subject, relay)
        finally:
            self._finite.discard(task)

    async def _serve_admitted(
        self,
        connection: StreamConnection,
        user: User | None,
        request: RequestHead,
        subject: Subject,
        relay: Relay,
    ) -> None:
        began = time.monotonic()
        with self._opens():
            node = await self._find(connection, user, request, subject)
            relay.keeps_not_found = self._router.can_ask_again(subject)
            facts = self._router.facts_for(node, subject, since=began)
            await self._open(node, request, facts, relay)
        await relay.finished()
        if relay.has_kept:
            await self._serve_again(node, facts, user, request, subject, relay)

    async def _open(
        self, node: NodeSession, request: RequestHead, facts: PodFacts | None, relay: Relay
    ) -> None:
        told = with_facts(request, facts)
        await relay.open(node.session, told, deadline=self._deadlines.open)

    async def _find(
        self,
        connection: StreamConnection,
        user: User | None,
        request: RequestHead,
        subject: Subject,
    ) -> NodeSession:
        """The node, on which a token's user may do this. Others do not even learn who is there."""
        try:
            node = await self._router.find(request, subject, connection.dialled)
        except RouteError:
            if user:
                await self._callers.authorize(user, request, ANY_NODE)
            raise
        if user:
            await self._callers.authorize(user, request, node.name)
        return node

    async def _serve_again(
        self,
        refused: NodeSession,
        told: PodFacts | None,
        user: User | None,
        request: RequestHead,
        subject: Subject,
        relay: Relay,
    ) -> None:
        """The node did not know the pod: ask where it has moved to, or tell what has changed."""
        began = time.monotonic()
        node = await self._router.find_again(subject, refused, told)
        if node is None:
            relay.deliver()
            return
        relay.keeps_not_found = False
        with self._opens():
            if user:
                await self._callers.authorize(user, request, node.name)
            facts = self._router.facts_for(node, subject, since=began)
            await self._open(node, request, facts, relay)
        await relay.finished()

    @contextlib.contextmanager
    def _opens(self) -> Iterator[None]:
        if self._opening >= self._limits.max_pending_opens:
            raise TooManyRequests(
                f"{self._opening} requests already wait for their edge's answer",
                hint="see limits.maxPendingOpens",
            )
        self._opening += 1
        started = time.monotonic()
        try:
            yield
        finally:
            self._opening -= 1
            self.opening.observe(time.monotonic() - started)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        if self._group is None:
            work.close()
            raise LocalProtocolError("the stream server does not run")
        return self._group.create_task(work, name=name)


def without_secrets(request: RequestHead) -> RequestHead:
    """The request as an edge may see it: a caller's token is for the cloud alone."""
    headers = without_headers(request.headers, ("authorization",))
    return RequestHead(request.method, request.target, headers)


def _is_finite(request: RequestHead) -> bool:
    """Whether the answer ends by itself, without the caller or the container ending it."""
    follows = parse_qs(request.query).get("follow", ["false"])[0].lower()
    return not request.is_upgrade and follows in ("false", "0")
