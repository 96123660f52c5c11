"""Where a node can be reached: in a session of this service, or at another replica."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from cloudstream.node_session import NodeSession
from cloudstream.registry import Registry, several_at
from cloudstream.replicas.replicas import Replicas
from streamkit.errors import NodeNotConnected
from streamkit.session.channel import Channel, ChannelHandler
from streamkit.wire.exchange import RequestHead

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
"""Seconds after which replicas are asked again for a node that none of them holds."""


class ChannelOpener(Protocol):
    """Whatever carries a request to a node."""

    @property
    def carries_pod_facts(self) -> bool:
        """Whether it takes what is known of the request's pod along."""

    def open(self, request: RequestHead, handler: ChannelHandler, body: bytes = b"") -> Channel:
        """Open a channel for a request and all of its body; the handler hears of the answer."""


class Places:
    """Finds a node. ``reconnect`` is the seconds for which one that is away is waited for."""

    def __init__(self, registry: Registry, replicas: Replicas | None, *, reconnect: float) -> None:
        self._registry = registry
        self._replicas = replicas
        self._reconnect = reconnect

    def is_known(self, node_name: str) -> bool:
        """Whether the node is connected here, or probably to another replica."""
        if self._registry.find(node_name):
            return True
        return bool(self._replicas and self._replicas.is_known(node_name))

    def name_at(self, address: str) -> str:
        """The name of the node with that internal address, here or elsewhere; empty: none is known.

        Raises NodeUnknown where several nodes have it: such an address can't say which is meant.
        """
        here = self._registry.by_address(address)
        names = set(self._replicas.names_at(address)) if self._replicas else set()
        if here:
            # One that is not here, and leads nowhere else, is off: somebody has its address now.
            others = {name for name in names if not self._registry.find(name)}
            names = {here.name, *filter(self.is_known, others)}
        if len(names) > 1:
            raise several_at(address, names)
        return next(iter(names), "")

    async def of(self, node_name: str) -> AsyncGenerator[ChannelOpener, None]:
        """Where to ask, one after the other, as long as the node is not met.

        A node that just moves from one replica to another is met on either side: both are looked
        at until ``reconnect`` is over. Raises NodeNotConnected then.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._reconnect
        pause = _FIRST_PAUSE
        while True:
            node = self._registry.find(node_name)
            if node and not self._is_doubtful(node):
                yield node.session
            for replica in self._replicas.candidates(node_name) if self._replicas else ():
                yield replica
                if not node and self._registry.find(node_name):
                    break
            if node:
                yield node.session
            left = end - loop.time()
            if left <= 0:
                self._registry.by_name(node_name)  # it is here, or this raises
            step = min(left, pause) if self._has_others else left
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                await self._registry.awaited(node_name, within=max(step, 0))
            except NodeNotConnected:
                if left <= step:
                    raise

    @property
    def _has_others(self) -> bool:
        return bool(self._replicas and self._replicas.addresses())

    def _is_doubtful(self, node: NodeSession) -> bool:
        """Whether another replica may hold the node by now, and this session be out of date."""
        if not self._replicas:
            return False
        if node.is_suspended:
            return True
        return self._replicas.published_elsewhere(node.name, since=node.attached_at)
