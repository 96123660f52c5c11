"""When a tunnel is not read for a moment, and for how long."""

import asyncio
from unittest import mock

from streamkit.session import respite
from streamkit.session.respite import QUANTUM, Respite
from streamkit.session.v1_cloud import V1CloudSession
from streamkit.wire.exchange import RequestHead
from streamkit.wire.message import MessageType, encode_message
from tests.support.handler import RecordingHandler
from tests.unit.streamkit.session.transport import Transport

LIMIT = 5.0
BUFFER = 4096
UPGRADE = RequestHead("POST", "/x", (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


class Tunnel:
    """A session with one channel, which is crowded, and the pauses of its tunnel."""

    def __init__(self) -> None:
        self.session = V1CloudSession(buffer_limit=BUFFER)
        self.channel = self.session.open(UPGRADE, RecordingHandler())
        self.session.message_received(
            encode_message(1, MessageType.DATA, SWITCH + bytes(BUFFER // 2))
        )
        assert self.session.is_crowded
        self.transport = Transport()
        self.respite = Respite(self.transport, self.session)

    async def asked(self, count: int) -> list[str]:
        """What has been asked of the transport, once it is so much."""
        async with asyncio.timeout(LIMIT):
            while len(self.transport.asked) < count:
                await asyncio.sleep(0.001)
        return self.transport.asked


async def test_enough_is_read_before_each_moment() -> None:
    tunnel = Tunnel()
    with mock.patch.multiple(respite, AMONG_OTHERS=0.01, ALONE=0.01):
        for number in (1, 2):
            tunnel.respite.message_read(QUANTUM - 1)
            await asyncio.sleep(0)
            assert tunnel.transport.asked == ["pause", "resume"] * (number - 1)
            tunnel.respite.message_read(1)
            assert await tunnel.asked(2 * number) == ["pause", "resume"] * number


async def test_a_channel_that_is_alone_is_waited_for_longer_until_there_is_another() -> None:
    tunnel = Tunnel()
    with mock.patch.multiple(respite, AMONG_OTHERS=0.01, ALONE=LIMIT):
        tunnel.respite.message_read(QUANTUM)
        await asyncio.sleep(0.1)
        tunnel.respite.message_read(QUANTUM)
        assert tunnel.transport.asked == ["pause"]
        tunnel.session.open(UPGRADE, RecordingHandler())
        assert await tunnel.asked(2) == ["pause", "resume"]


async def test_a_channel_that_is_gone_is_not_waited_for() -> None:
    tunnel = Tunnel()
    with mock.patch.multiple(respite, AMONG_OTHERS=0.01, ALONE=LIMIT):
        tunnel.respite.message_read(QUANTUM)
        tunnel.session.remove(tunnel.channel.channel_id)
        assert await tunnel.asked(2) == ["pause", "resume"]


async def test_a_moment_may_end_early_and_only_once() -> None:
    tunnel = Tunnel()
    tunnel.respite.end()
    assert tunnel.transport.asked == []
    tunnel.respite.message_read(QUANTUM)
    await asyncio.sleep(0)
    tunnel.respite.end()
    tunnel.respite.end()
    await asyncio.sleep(0.2)
    assert tunnel.transport.asked == ["pause", "resume"]
