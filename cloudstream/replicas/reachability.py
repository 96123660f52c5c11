"""Which replicas answer, so that requests and drains need not find out one after the other."""

import asyncio
import logging
from collections.abc import Callable, Collection
from enum import Enum, auto
from typing import Any

from cloudstream.replicas.exchange import Address, ReplicaDialler, ReplicaSession
from cloudstream.replicas.messages import NOBODY, NodeNotHere
from streamkit.errors import ChannelReset, IncompleteAnswer, ReplicaUnreachable, StreamError
from streamkit.service.tasks import spawn
from streamkit.wire.exchange import RequestHead, ResponseHead

log = logging.getLogger(__name__)

_ANSWER = 3.0
"""Seconds for a replica to say how it is."""
_PAUSE = 1.0
"""Seconds between two attempts to reach one that is away."""


class Condition(Enum):
    """How a replica is."""

    SERVING = auto()
    LEAVING = auto()
    """It answers, and is about to end."""
    AWAY = auto()


class Reachability:
    """Remembers who could not be reached, and asks again until they answer.

    ``listed`` are the addresses of all replicas; who is not among them any more is forgotten.
    """

    def __init__(self, dialler: ReplicaDialler, listed: Callable[[], Collection[Address]]) -> None:
        self._dialler = dialler
        self._listed = listed
        self._away: set[Address] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def is_away(self, address: Address) -> bool:
        """Whether it could not be reached, and is being asked again."""
        return address in self._away

    def note(self, address: Address, error: StreamError | None) -> None:
        """An exchange with the replica has begun, or failed to."""
        if not isinstance(error, ReplicaUnreachable) or address in self._away:
            return
        log.warning("%s; no request waits for it until it answers", error)
        self._away.add(address)
        spawn(self._retry(address), name="replica retry", owner=self._tasks)

    async def is_any_serving(self) -> bool:
        """Whether there is another replica that takes edges, asked for now."""
        conditions = await asyncio.gather(*map(self._ask, self._listed()))
        return Condition.SERVING in conditions

    async def close(self) -> None:
        """End what is being asked. Idempotent."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _retry(self, address: Address) -> None:
        try:
            while address in self._listed():
                await asyncio.sleep(_PAUSE)
                if await self._ask(address) is not Condition.AWAY:
                    log.info("the replica at %s answers again", address[0])
                    return
        finally:
            self._away.discard(address)

    async def _ask(self, address: Address) -> Condition:
        probe = _Probe()
        session = ReplicaSession(self._dialler, address, NOBODY, lambda error: None)
        channel = session.open(RequestHead("GET", "/", (("Host", address[0]),)), probe)
        try:
            async with asyncio.timeout(_ANSWER):
                error = await probe.outcome
        except TimeoutError:
            return Condition.AWAY
        finally:
            channel.reset(ChannelReset("the question is answered, or too old"))
        if not isinstance(error, NodeNotHere):
            return Condition.AWAY
        return Condition.LEAVING if error.is_leaving else Condition.SERVING


class _Probe:
    """Hears a replica's answer to a request for a node that nobody has. A ChannelHandler."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[StreamError] = asyncio.get_running_loop().create_future()

    def head_received(self, head: ResponseHead) -> None:
        self.reset_received(IncompleteAnswer("a node that nobody has was met"))

    def data_received(self, data: bytes | memoryview) -> None:
        """The head has told enough."""

    def end_received(self) -> None:
        """The head has told enough."""

    def reset_received(self, error: StreamError) -> None:
        if not self.outcome.done():
            self.outcome.set_result(error)

    def pause_writing(self) -> None:
        """Nothing is written."""

    def resume_writing(self) -> None:
        """Nothing is written."""
