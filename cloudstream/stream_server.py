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
from cloudstream.kube.pods import PodDirectory
from cloudstream.kube.review import User
from cloudstream.kubelet_path import Subject
from cloudstream.node_session import NodeSession
from cloudstream.places import Places
from cloudstream.registry import Registry
from cloudstream.relay import Relay
from cloudstream.replicas.messages import NODE_HEADER, NodeNotHere
from cloudstream.replicas.replicas import Replicas
from cloudstream.router import Router
from cloudstream.stream_connection import StreamConnection
from streamkit.errors import (
    Draining,
    LocalProtocolError,
    NodeNotConnected,
    ReplicaUnreachable,
    RouteError,
    TooManyRequests,
)
from streamkit.service.tally import RequestTally, short_durations
from streamkit.wire.exchange import RequestHead, header_values, without_headers
from streamkit.wire.pod_facts import PodFacts, with_facts

log = logging.getLogger(__name__)


class StreamServer:
    """Answers every request of every connection. ``run`` owns the tasks of all of them."""

    def __init__(
        self,
        callers: Callers,
        registry: Registry,
        pods: PodDirectory | None,
        replicas: Replicas | None,
        deadlines: CloudDeadlines,
        limits: CloudLimits,
    ) -> None:
        self.tally = RequestTally()
        self.opening = short_durations()
        """How long requests waited for their edge's answer, or for a refusal."""
        self._callers = callers
        self._registry = registry
        self._replicas = replicas
        self._places = Places(registry, replicas, reconnect=deadlines.reconnect)
        self._router = Router(pods, self._places)
        self._deadlines = deadlines
        self._limits = limits
        self._group: asyncio.TaskGroup | None = None
        self._connections: set[StreamConnection] = set()
        self._opening = 0
        self._finite: set[asyncio.Task[None] | None] = set()
        self._is_draining = False
        self._is_leaving = False

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
        return self._is_draining or self._is_leaving

    @property
    def is_serving(self) -> bool:
        """Whether any request is in flight, a session or a followed log included."""
        return any(self.tally.live.values())

    def leave_soon(self) -> None:
        """Answer all that comes, and let no connection outlive its next answer."""
        self._is_leaving = True
        for connection in self._connections:
            connection.leave_soon()

    def leave(self) -> None:
        """End each connection as soon as what is in flight on it has been answered."""
        for connection in tuple(self._connections):
            connection.leave()

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
        self.leave()
        if lost := [connection.lost for connection in self._connections]:
            await asyncio.wait(lost, timeout=within)

    def connection(self, *, dialled: str = "", peer: str = "") -> StreamConnection:
        """The protocol of a connection that has just been accepted.

        ``dialled`` is the host that was asked for and ``peer`` the caller's name, where the socket
        can't tell.
        """
        connection = StreamConnection(
            self._serve,
            self._spawn,
            self._connections,
            self._deadlines,
            max_head_bytes=self._limits.max_head_bytes,
            dialled=dialled,
            peer=peer,
        )
        if self._is_leaving:
            connection.leave_soon()
        return connection

    async def _serve(
        self, connection: StreamConnection, request: RequestHead, subject: Subject, relay: Relay
    ) -> None:
        # What is not for a node of ours has to be asked elsewhere, and counts there.
        node = self._passed_on(connection, request)
        with self.tally.request(request.path) as exchange:
            try:
                await self._serve_counted(connection, node, request, subject, relay)
            finally:
                exchange.status = relay.status

    async def _serve_counted(
        self,
        connection: StreamConnection,
        node: NodeSession | None,
        request: RequestHead,
        subject: Subject,
        relay: Relay,
    ) -> None:
        task = asyncio.current_task()
        user = None if node else await self._callers.check(connection.peercert, request)
        if self._is_draining and not node:
            raise Draining("the cloud service is stopping")
        if _is_finite(request):
            self._finite.add(task)
        request = without_secrets(request)
        try:
            if node:
                await self._serve_replica(node, request, relay)
            else:
                await self._serve_admitted(connection, user, request, subject, relay)
        finally:
            self._finite.discard(task)

    def _passed_on(self, connection: StreamConnection, request: RequestHead) -> NodeSession | None:
        """The node that another replica has found for a caller it has checked; else None.

        Raises NodeNotHere where it is no node of ours: the request goes no further than here, so
        that nothing circles.
        """
        if not self._replicas or not self._replicas.is_replica(connection.peercert):
            return None
        for name in header_values(request.headers, NODE_HEADER.lower()):
            node = self._registry.find(name)
            if node is None or self._is_draining:
                sentence = f'edge node "{name}" is not connected to this replica'
                raise NodeNotHere(sentence, is_leaving=self.is_draining)
            return node
        return None

    async def _serve_replica(self, node: NodeSession, request: RequestHead, relay: Relay) -> None:
        """Answer another replica."""
        relay.is_for_replica = True
        with self._opens():
            if not node.session.carries_pod_facts:
                request = with_facts(request, None)
            await relay.open(node.session, request, deadline=self._deadlines.open)
        await relay.finished()

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
            node_name = await self._find(connection, user, request, subject)
            relay.keeps_not_found = self._router.can_ask_again(subject)
            facts = self._router.facts_for(node_name, subject, since=began)
            takes_facts = await self._open(node_name, request, facts, relay)
        await relay.finished()
        if relay.has_kept:
            may_learn = takes_facts and not (facts and facts.is_current)
            await self._serve_again(node_name, may_learn, user, request, subject, relay)

    async def _open(
        self, node_name: str, request: RequestHead, facts: PodFacts | None, relay: Relay
    ) -> bool:
        """Open the relay at whoever holds the node; whether the facts could go there.

        Raises NodeNotConnected, and what the relay raises where the node was met.
        """
        async with contextlib.aclosing(self._places.of(node_name)) as places:
            async for place in places:
                takes_facts = place.carries_pod_facts
                told = with_facts(request, facts if takes_facts else None)
                try:
                    await relay.open(place, told, deadline=self._deadlines.open)
                except (NodeNotHere, ReplicaUnreachable) as error:
                    log.debug('node "%s" is looked for elsewhere: %s', node_name, error)
                else:
                    return takes_facts
        raise NodeNotConnected(f'edge node "{node_name}" is not connected')

    async def _find(
        self,
        connection: StreamConnection,
        user: User | None,
        request: RequestHead,
        subject: Subject,
    ) -> str:
        """The node, on which a token's user may do this. Others do not even learn who is there."""
        try:
            node_name = await self._router.find(request, subject, connection.dialled)
        except RouteError:
            if user:
                await self._callers.authorize(user, request, ANY_NODE)
            raise
        if user:
            await self._callers.authorize(user, request, node_name)
        return node_name

    async def _serve_again(
        self,
        refused: str,
        may_learn: bool,
        user: User | None,
        request: RequestHead,
        subject: Subject,
        relay: Relay,
    ) -> None:
        """The node did not know the pod: ask where it has moved to, or tell what has changed."""
        began = time.monotonic()
        node_name = await self._router.find_again(subject, refused, may_learn=may_learn)
        if node_name is None:
            relay.deliver()
            return
        relay.keeps_not_found = False
        with self._opens():
            if user:
                await self._callers.authorize(user, request, node_name)
            facts = self._router.facts_for(node_name, subject, since=began)
            await self._open(node_name, request, facts, relay)
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
    headers = without_headers(request.headers, ("authorization", NODE_HEADER.lower()))
    return RequestHead(request.method, request.target, headers)


def _is_finite(request: RequestHead) -> bool:
    """Whether the answer ends by itself, without the caller or the container ending it."""
    follows = parse_qs(request.query).get("follow", ["false"])[0].lower()
    return not request.is_upgrade and follows in ("false", "0")
