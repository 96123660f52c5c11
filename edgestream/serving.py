"""Answers the channels that the cloud opens, each in a task of its own."""

import asyncio
import logging

from edgestream.channel_exchange import ChannelExchange
from edgestream.kubelet.exchange import Exchange, KubeletHandler
from edgestream.kubelet.serve import answer
from streamkit.errors import ChannelReset, LocalProtocolError, StreamError, TooManyRequests
from streamkit.service.tally import RequestTally
from streamkit.session.channel import Channel, ChannelHandler

log = logging.getLogger(__name__)


class ChannelServer:
    """The acceptor of a session's channels. ``run`` owns their tasks."""

    def __init__(self, handler: KubeletHandler, *, max_channels: int) -> None:
        self.tally = RequestTally()
        self._handler = handler
        self._max_channels = max_channels
        self._group: asyncio.TaskGroup | None = None
        self._live = 0

    async def run(self) -> None:
        """Hold the channels' tasks until cancelled, which cancels them too."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.get_running_loop().create_future()

    def accept(self, channel: Channel) -> ChannelHandler:
        """Begin to answer a channel."""
        if self._group is None:
            raise LocalProtocolError("the channel server does not run")
        exchange = ChannelExchange(channel)
        name = f"channel {channel.channel_id}"
        exchange.owned_by(self._group.create_task(self._answer(channel, exchange), name=name))
        return exchange

    async def _answer(self, channel: Channel, exchange: ChannelExchange) -> None:
        self._live += 1
        try:
            is_full = self._live > self._max_channels
            with self.tally.request(channel.request.path) as counted:
                try:
                    await answer(_Busy(self._max_channels) if is_full else self._handler, exchange)
                    await exchange.end()
                finally:
                    counted.status = exchange.status
            # What the caller still sends has no reader: neither side should keep it for one.
            channel.reset(ChannelReset("the request is answered"))
        except StreamError as error:
            log.info("%s breaks off: %s [%s]", channel.request.path, error, error.code)
            channel.reset(error)
        except asyncio.CancelledError:
            channel.reset(ChannelReset("the edge agent ended the request"))
            raise
        finally:
            self._live -= 1


class _Busy:
    """Answers in the handler's place while the node has as much to do as it may."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    async def serve(self, exchange: Exchange) -> None:
        raise TooManyRequests(f"this node already answers {self._limit} requests")

    async def close(self) -> None:
        """Nothing is kept."""
