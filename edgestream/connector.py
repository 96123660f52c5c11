"""Keeps a tunnel to the cloud: dials, serves, dials again."""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable

from edgestream.config import Backoff
from edgestream.tunnel import Tunnel, TunnelOptions, dial
from streamkit.errors import (
    HandshakeRejected,
    LocalProtocolError,
    StreamError,
    TunnelClosed,
    TunnelReplaced,
)
from streamkit.session.session import Session

log = logging.getLogger(__name__)

_PROVEN = 10.0
"""Seconds after which a tunnel counts as good, so that its end begins a new series of attempts."""


class RedialDelays:
    """Exponential back-off with jitter: each delay lies between half and all of its step."""

    def __init__(self, backoff: Backoff, *, uniform: Callable[[float, float], float]) -> None:
        self._backoff = backoff
        self._uniform = uniform
        self._step = backoff.initial

    def reset(self) -> None:
        """Begin with the shortest delay again."""
        self._step = self._backoff.initial

    def after(self, error: StreamError) -> float:
        """Seconds to wait before the next attempt. A refusal waits the longest at once."""
        if isinstance(error, HandshakeRejected | TunnelReplaced):
            self._step = self._backoff.maximum
        step, self._step = self._step, min(self._step * 2, self._backoff.maximum)
        return self._uniform(step / 2, step)


class Connector:
    """Owns the tunnel, one at a time."""

    def __init__(
        self,
        options: TunnelOptions,
        context: ssl.SSLContext,
        new_session: Callable[[], Session],
        backoff: Backoff,
    ) -> None:
        self._options = options
        self._context = context
        self._new_session = new_session
        self._delays = RedialDelays(backoff, uniform=random.uniform)

    async def run(self) -> None:
        """Stay connected until cancelled; nothing that the cloud or the network does ends it."""
        attempt = 1
        while True:
            error, was_good = await self._serve_once()
            if was_good:
                attempt = 1
                self._delays.reset()
            attempt += 1
            delay = self._delays.after(error)
            log.warning("%s [%s]; attempt %d follows in %.1f s", error, error.code, attempt, delay)
            await asyncio.sleep(delay)

    async def _serve_once(self) -> tuple[StreamError, bool]:
        """One tunnel from dial to end: why it ended, and whether it had been good."""
        loop = asyncio.get_running_loop()
        try:
            connection = await dial(self._options, self._context)
        except StreamError as error:
            return error, False
        began = loop.time()
        log.info('connected to %s as node "%s"', self._options.server, self._options.node_name)
        session = self._new_session()
        try:
            await Tunnel(connection, session, self._options).run()
        except StreamError as error:
            session.close(error)
            return error, loop.time() - began > _PROVEN
        finally:
            session.close(TunnelClosed("the edge agent shuts down"))
        raise LocalProtocolError("a tunnel ends with a reason")
