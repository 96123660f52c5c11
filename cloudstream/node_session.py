"""One node's session on the cloud: it is served over one tunnel after another."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Protocol

from streamkit.errors import StreamError, TunnelClosed, TunnelReplaced
from streamkit.session.session import CloudSession

log = logging.getLogger(__name__)


class TunnelHandle(Protocol):
    """What a session may do to its tunnel."""

    def close(self, error: StreamError) -> None:
        """End the tunnel and tell the edge why. Idempotent."""


class NodeSession:
    """A node's live entry. Identity is the name; the address is an attribute of the tunnel.

    ``ended`` is called once, when the session is over for good.
    """

    def __init__(
        self,
        name: str,
        session: CloudSession,
        *,
        resume_timeout: float,
        ended: Callable[["NodeSession"], None],
    ) -> None:
        self.name = name
        self.session = session
        self.internal_ip = ""
        self.attached_at = 0.0
        """Monotonic time at which the present tunnel began to carry the session."""
        self.is_draining = False
        """Whether the edge has been asked to dial another cloud service."""
        self._resume_timeout = resume_timeout
        self._ended = ended
        self._tunnel: TunnelHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._is_over = False

    @property
    def is_suspended(self) -> bool:
        """Whether the session waits for its edge to come back."""
        return self._tunnel is None and not self._is_over

    def attach(self, tunnel: TunnelHandle, internal_ip: str) -> None:
        """A tunnel carries the session from now on; an older one is closed."""
        older, self._tunnel = self._tunnel, tunnel
        self.internal_ip = internal_ip
        self.attached_at = time.monotonic()
        self._stop_expiry()
        if older is not None:
            self.session.detach()
            older.close(TunnelReplaced(f'a newer tunnel of node "{self.name}" took over'))

    def detach(
        self,
        tunnel: TunnelHandle,
        error: StreamError,
        *,
        will_return: bool,
        within: float = math.inf,
    ) -> None:
        """The tunnel is gone. The session waits, or ends where nothing can come back for it.

        It waits for the shortest of our time limit, the edge's, and ``within`` seconds.
        """
        if self._tunnel is not tunnel:
            return
        self._tunnel = None
        self.session.detach()
        # An edge that keeps nothing, or has never heard the session's name, can't come back for it.
        seconds = min(self._resume_timeout, self.session.peer_resume_timeout, within)
        if not will_return or seconds <= 0:
            self.close(error)
            return
        expired = TunnelClosed(f"{error}, and it did not come back within {seconds:g} s")
        self._expiry = asyncio.get_running_loop().call_later(seconds, self.close, expired)
        log.info(
            'node "%s" may resume its %d requests within %g s',
            self.name,
            self.session.channel_count,
            seconds,
        )

    def close(self, error: StreamError) -> None:
        """End the session, its channels and its tunnel. Idempotent."""
        if self._is_over:
            return
        self._is_over = True
        self._stop_expiry()
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.close(error)
        self._ended(self)
        self.session.close(error)

    def _stop_expiry(self) -> None:
        if self._expiry:
            self._expiry.cancel()
            self._expiry = None
