"""How a replica that is about to end gets its edges to the others, without a failed request."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from cloudstream.replicas.replicas import Replicas
from cloudstream.stream_server import StreamServer
from cloudstream.tunnel_server import TunnelServer

log = logging.getLogger(__name__)

_LOOK = 0.1
"""Seconds between two looks at how far it has come."""
_SURVEY = 1.0
"""Seconds between two questions whether there is anybody to go to."""
_LINGER = 1.0
"""Seconds for which API servers may still come here after a node has gone elsewhere: they hear of
its port a moment later."""


async def move_edges(
    tunnels: TunnelServer,
    streams: StreamServer,
    replicas: Replicas,
    is_published_here: Callable[[Collection[str]], bool],
    *,
    until: float,
) -> None:
    """Ask our edges to dial again, and serve on while they do and API servers learn where they are.

    ``is_published_here`` tells whether any of the Nodes still leads API servers here. Ends when all
    of them have moved and what runs here has ended; at the monotonic time ``until`` at the latest,
    and as soon as no other replica takes edges.
    """
    names = tunnels.drain()
    streams.leave_soon()
    next_survey = lingers_until = 0.0
    while (now := time.monotonic()) < until:
        if now >= next_survey:
            if not await replicas.is_any_serving():
                log.info("no other replica takes edges: %d nodes stay to the end", len(names))
                break
            next_survey = time.monotonic() + _SURVEY
        if tunnels.has_edges_to_move or is_published_here(names):
            lingers_until = 0.0
        elif not lingers_until:
            lingers_until = now + _LINGER
        elif now > lingers_until and not streams.is_serving:
            log.info("%d nodes have gone to other replicas", len(names))
            break
        await asyncio.sleep(_LOOK)
    streams.leave()
