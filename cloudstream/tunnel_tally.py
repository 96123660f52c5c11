"""Tunnels, counted: those that are open, and what was of those that are over."""

from collections import Counter
from typing import Literal, Protocol

from streamkit.errors import StreamError
from streamkit.service.tally import short_durations

Wire = Literal["v1", "v2"]


class CountedTunnel(Protocol):
    """What is asked of a tunnel."""

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes to the peer, and from it, since the tunnel began."""


class TunnelTally:
    """Told when tunnels open and close; traffic is read from the kernel when it is asked for."""

    def __init__(self) -> None:
        self.connects: Counter[tuple[str, str]] = Counter()
        """By wire version, and by whether a session was resumed ("resumed") or begun ("new")."""
        self.disconnects: Counter[tuple[str]] = Counter()
        """By error code."""
        self.round_trips = short_durations()
        self._live: dict[CountedTunnel, Wire] = {}
        self._past = (0, 0)

    def opened(self, tunnel: CountedTunnel, *, is_v2: bool, is_resumed: bool) -> None:
        """A tunnel carries a session from now on."""
        wire: Wire = "v2" if is_v2 else "v1"
        self._live[tunnel] = wire
        self.connects[wire, "resumed" if is_resumed else "new"] += 1

    def closed(self, tunnel: CountedTunnel, error: StreamError) -> None:
        """A tunnel is over; one that never opened does not count."""
        if self._live.pop(tunnel, None) is not None:
            self.disconnects[error.code,] += 1
            sent, received = tunnel.traffic
            self._past = (self._past[0] + sent, self._past[1] + received)

    @property
    def live(self) -> dict[str, int]:
        """How many tunnels are open, by wire version."""
        return {"v1": 0, "v2": 0} | Counter(self._live.values())

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes to edge nodes, and from them, TLS and WebSocket included."""
        sent, received = self._past
        for tunnel in self._live:
            more = tunnel.traffic
            sent, received = sent + more[0], received + more[1]
        return sent, received
