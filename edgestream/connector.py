"""Keeps a tunnel to the cloud: dials, serves, dials again."""

import asyncio
import contextlib
import logging
import random
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from edgestream.config import Backoff
from edgestream.tunnel import DialledTunnel, TunnelOptions, dial
from streamkit.errors import (
    HandshakeRejected,
    HeartbeatTimeout,
    LocalProtocolError,
    StreamError,
    TunnelClosed,
    TunnelLost,
    TunnelReplaced,
)
from streamkit.service.tasks import spawn
from streamkit.session.session import Session
from streamkit.session.v2 import V2EdgeSession
from streamkit.wire.v2_message import SUBPROTOCOL

log = logging.getLogger(__name__)

_GROWTH = 1.5
_PROVEN = 10.0
"""Seconds after which a tunnel counts as good, so that its end begins a new series of attempts."""


class SessionFactory(Protocol):
    """Makes the sessions of either version."""

    def v1(self) -> Session:
        """For a stock cloud."""

    def v2(self) -> Session:
        """For a cloud that chose v2."""


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
        step, self._step = self._step, min(self._step * _GROWTH, self._backoff.maximum)
        return self._uniform(step / 2, step)


class Connector:
    """Owns the tunnel, one at a time, and the session that outlives a lost one."""

    def __init__(
        self,
        options: TunnelOptions,
        context: ssl.SSLContext,
        sessions: SessionFactory,
        backoff: Backoff,
        *,
        resume_timeout: float,
    ) -> None:
        self._options = options
        self._context = context
        self._sessions = sessions
        self._delays = RedialDelays(backoff, uniform=random.uniform)
        self._resume_timeout = resume_timeout
        self.connects: Counter[tuple[str, str]] = Counter()
        """Tunnels by wire version, and by whether they resumed a session ("resumed") or not."""
        self.failures: Counter[tuple[str]] = Counter()
        """Tunnels that ended, and attempts that failed, by error code."""
        self.trouble = "no tunnel has been opened yet"
        """Why there is no tunnel; empty while there is one."""
        self._session: Session | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._leaving: dict[asyncio.Task[StreamError], Session] = {}
        """Tunnels to clouds that drain, and what they carry to its end."""
        self._drained = asyncio.Event()
        """Whether the present tunnel's cloud drains."""
        self._may_dial = asyncio.Event()

    def use(self, context: ssl.SSLContext) -> None:
        """Have the next tunnel dialled with another context."""
        self._context = context

    async def run(self) -> None:
        """Stay connected until cancelled; nothing that the cloud or the network does ends it."""
        attempt = 1
        try:
            while True:
                error, was_good = await self._serve_once()
                self.trouble = str(error)
                self.failures[error.code,] += 1
                if was_good:
                    attempt = 1
                    self._delays.reset()
                attempt += 1
                delay = self._delays.after(error)
                why = f"{error} [{error.code}]" + (f" ({error.hint})" if error.hint else "")
                log.warning("%s; attempt %d follows in %.1f s", why, attempt, delay)
                await self._pause(delay)
        finally:
            for task in self._leaving:
                task.cancel()
            await asyncio.gather(*self._leaving, return_exceptions=True)
            self._end_session(TunnelClosed("the edge agent shuts down"))

    async def _serve_once(self) -> tuple[StreamError, bool]:
        """One tunnel from dial to end: why it ended, and whether it had been good.

        Where its cloud drains this is the end, though what the tunnel carries goes on.
        """
        loop = asyncio.get_running_loop()
        kept = self._session
        token = kept.token if isinstance(kept, V2EdgeSession) else ""
        try:
            tunnel = await dial(self._options, self._context, session_token=token)
        except StreamError as error:
            return error, False
        began = loop.time()
        self._drained.clear()
        session = self._session_over(tunnel.subprotocol)
        how = "resumed" if session is kept else "new"
        self.connects["v2" if session.can_resume else "v1", how] += 1
        self.trouble = ""
        log.info(
            'connected to %s as node "%s", speaking %s',
            self._options.server,
            self._options.node_name,
            "v2" if session.can_resume else "v1",
        )
        for older in self._leaving.values():
            if isinstance(older, V2EdgeSession):
                older.drain("this node has dialled again")
        if ended := await self._carry(tunnel, session):
            self._tunnel_ended(session, ended)
            return ended, loop.time() - began > _PROVEN
        self._session = None
        return TunnelClosed("the cloud drains, this node dials again"), True

    async def _carry(self, tunnel: DialledTunnel, session: Session) -> StreamError | None:
        """Why the tunnel ended; None where its cloud drains and it is among the leaving ones."""
        owner: set[asyncio.Task[Any]] = set()
        carrying = spawn(_end_of(tunnel, session), name="tunnel", owner=owner)
        drained = spawn(self._drained.wait(), name="drain", owner=owner)
        try:
            await asyncio.wait((carrying, drained), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            carrying.cancel()
            await asyncio.wait((carrying,))
            raise
        finally:
            drained.cancel()
        if carrying.done():
            return carrying.result()
        self._leaving[carrying] = session
        carrying.add_done_callback(self._left)
        return None

    def _left(self, carrying: "asyncio.Task[StreamError]") -> None:
        """A cloud that drained has closed its tunnel: it may be back at once."""
        session = self._leaving.pop(carrying)
        stopped = TunnelClosed("the edge agent shuts down")
        session.close(stopped if carrying.cancelled() else carrying.result())
        self._delays.reset()
        self._may_dial.set()

    async def _pause(self, delay: float) -> None:
        self._may_dial.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._may_dial.wait()

    def _session_over(self, subprotocol: str) -> Session:
        """The kept session where the cloud can take it up again, else a new one."""
        self._stop_expiry()
        speaks_v2 = subprotocol == SUBPROTOCOL
        if self._session is None or self._session.can_resume != speaks_v2:
            self._end_session(TunnelClosed("the cloud speaks another protocol version now"))
            self._session = self._sessions.v2() if speaks_v2 else self._sessions.v1()
            self._session.drained = self._cloud_drains
        return self._session

    def _cloud_drains(self, sentence: str) -> None:
        log.info("the cloud drains: %s", sentence)
        self._drained.set()

    def _tunnel_ended(self, session: Session, error: StreamError) -> None:
        # A cloud that keeps nothing, or that has not yet named the session, can't resume it.
        seconds = min(self._resume_timeout, session.peer_resume_timeout)
        if not isinstance(error, TunnelLost | HeartbeatTimeout) or seconds <= 0:
            self._end_session(error)
            return
        loop = asyncio.get_running_loop()
        expired = TunnelClosed(f"{error}, and no other tunnel could be had within {seconds:g} s")
        self._expiry = loop.call_later(seconds, self._end_session, expired)

    def _end_session(self, error: StreamError) -> None:
        self._stop_expiry()
        if self._session:
            self._session.close(error)
            self._session = None

    def _stop_expiry(self) -> None:
        if self._expiry:
            self._expiry.cancel()
            self._expiry = None


async def _end_of(tunnel: DialledTunnel, session: Session) -> StreamError:
    """Carry the session until the tunnel ends: why it did."""
    try:
        await tunnel.run(session)
    except StreamError as error:
        return error
    return LocalProtocolError("a tunnel ends with a reason")
