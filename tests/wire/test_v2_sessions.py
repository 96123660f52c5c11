"""Whatever the two applications do, and however often the tunnel is lost: nothing of a channel is
left in either session, and each handler hears how its channel ended, once.

The muxes below have their own histories; these are about the layer that talks to handlers.
"""

import os
from collections import deque
from random import Random
from typing import Any

import pytest

from streamkit.errors import ChannelReset, LogUnavailable, StreamError, TunnelClosed
from streamkit.session.channel import HIGH_WATER, Channel
from streamkit.session.v2 import V2CloudSession, V2EdgeSession, V2Session
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.v2 import V2Settings
from tests.support.messages import messages_of

FIRST_SEED = int(os.environ.get("V2_SEED", "0"))
HISTORIES = 100

GET = RequestHead("GET", "/containerLogs/default/web/c")
UPGRADE = RequestHead("POST", "/exec/default/web/c", (("Connection", "Upgrade"),))


class End:
    """One side's application of one channel, which holds the session to its contract."""

    def __init__(self, *, consumes: bool) -> None:
        self.channel: Channel | None = None
        self.consumes = consumes
        self.unconsumed = 0
        self.heads = 0
        self.has_end = False
        self.errors: list[StreamError] = []
        self.is_paused = False
        self.has_left = False
        self.is_headed = False
        self.has_ended = False

    @property
    def is_live(self) -> bool:
        return not self.errors and not self.has_left

    def head_received(self, head: ResponseHead) -> None:
        self._may_hear()
        self.heads += 1
        assert self.heads == 1

    def data_received(self, data: bytes | memoryview) -> None:
        self._may_hear()
        assert not self.has_end
        self.unconsumed += len(data)
        if self.consumes:
            self.consume()

    def end_received(self) -> None:
        self._may_hear()
        assert not self.has_end
        self.has_end = True

    def reset_received(self, error: StreamError) -> None:
        self._may_hear()
        self.errors.append(error)

    def pause_writing(self) -> None:
        self._may_hear()
        assert not self.is_paused
        self.is_paused = True

    def resume_writing(self) -> None:
        self._may_hear()
        assert self.is_paused
        self.is_paused = False

    def consume(self) -> None:
        size, self.unconsumed = self.unconsumed, 0
        if self.channel and size:
            self.channel.consumed(size)

    def _may_hear(self) -> None:
        assert not self.errors, "something follows a reset"
        assert not self.has_left, "something follows the own reset"


class World:
    """A session on each side, their applications, and the link between them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        window = self.random.choice((1000, 200_000))
        self.settings = V2Settings(window, 2 * window, 30)
        self.sessions = 0
        self.cloud_ends: list[End] = []
        self.edge_ends: list[End] = []
        self.cloud = self.new_cloud()
        self.edge = self.new_edge()
        self.flying: dict[V2Session[Any], deque[bytes]] = {}
        self.connect()

    def new_cloud(self) -> V2CloudSession:
        self.sessions += 1
        return V2CloudSession(f"session-{self.sessions}", self.settings, lambda: 0.0)

    def new_edge(self) -> V2EdgeSession:
        return V2EdgeSession(self.accept, self.settings, lambda: 0.0)

    def accept(self, channel: Channel) -> End:
        end = End(consumes=self.random.random() < 0.7)
        end.channel = channel
        self.edge_ends.append(end)
        return end

    # -- the link --------------------------------------------------------------------------

    def connect(self) -> None:
        for session in (self.cloud, self.edge):
            session.detach()
            session.attach()
        self.flying = {self.cloud: deque(), self.edge: deque()}

    def lose(self) -> None:
        """What flies arrives up to some message in each direction; the rest is lost."""
        for session, other in self.ways:
            flying = self.flying[session]
            for _ in range(self.random.randint(0, len(flying))):
                other.message_received(flying.popleft())
        self.connect()

    def deliver(self, most: int) -> bool:
        """Messages leave and arrive; whether there were any."""
        count = 0
        for session, other in self.ways:
            flying = self.flying[session]
            flying.extend(messages_of(session))
            for _ in range(min(most, len(flying))):
                other.message_received(flying.popleft())
                count += 1
        return count > 0

    @property
    def ways(self) -> tuple[tuple[V2Session[Any], V2Session[Any]], ...]:
        return (self.cloud, self.edge), (self.edge, self.cloud)

    # -- the applications ------------------------------------------------------------------

    def step(self) -> None:
        chance = self.random.random()
        if chance < 0.1:
            end = End(consumes=self.random.random() < 0.7)
            end.channel = self.cloud.open(self.random.choice((GET, UPGRADE)), end)
            self.cloud_ends.append(end)
        elif chance < 0.4:
            self.deliver(self.random.choice((1, 5, 1000)))
        elif chance < 0.43:
            self.lose()
        elif chance < 0.44:
            self.restart()
        elif chance < 0.7:
            self.act(self.cloud_ends, LogUnavailable("not for a cloud to say"))
        else:
            self.act(self.edge_ends, LogUnavailable("the disk is gone"))

    def restart(self) -> None:
        """One side, or both, begin with a new session."""
        error = TunnelClosed("the session is over")
        if self.random.random() < 0.7:
            self.edge.close(error)
            self.edge = self.new_edge()
        else:
            self.cloud.close(error)
            self.cloud = self.new_cloud()
        self.connect()

    def act(self, ends: list[End], error: StreamError) -> None:
        """One application does something; late calls are void."""
        if not ends:
            return
        end = self.random.choice(ends)
        channel, chance = end.channel, self.random.random()
        assert channel is not None
        if ends is self.edge_ends and not end.is_headed:
            end.is_headed = chance < 0.8
            if end.is_headed:
                channel.send_head(ResponseHead(200))
            else:
                self.leave(end, error)
        elif chance < 0.6:
            if not end.is_paused and not end.has_ended:
                channel.write(bytes(self.random.choice((1, 900, HIGH_WATER))))
        elif chance < 0.75:
            end.consume()
        elif chance < 0.9:
            channel.end()
            end.has_ended = True
        else:
            self.leave(end, error)

    def leave(self, end: End, error: StreamError) -> None:
        end.has_left = True
        if end.channel:
            end.channel.reset(error)

    def finish(self) -> None:
        """Edges answer what they have; then every application lets go, in any order."""
        for end in self.edge_ends:
            if end.is_live and end.channel:
                if not end.is_headed:
                    end.channel.send_head(ResponseHead(200))
                end.channel.end()
        both = [*self.cloud_ends, *self.edge_ends]
        readers = [end for end in both if self.random.random() < 0.7]
        while self.deliver(1000):
            for end in readers:
                end.consume()
        for end in self.random.sample(both, len(both)):
            if not end.has_left:
                self.leave(end, ChannelReset("done"))
        while self.deliver(1000):
            pass


@pytest.mark.parametrize("block", range(10))
def test_histories(block: int) -> None:
    begin = FIRST_SEED + block * HISTORIES
    for seed in range(begin, begin + HISTORIES):
        world = World(seed)
        try:
            for _ in range(world.random.choice((20, 60, 200))):
                world.step()
            world.finish()
            for session in (world.cloud, world.edge):
                assert session.channel_count == 0
                assert not session.paused
                assert list(session.mux.channel_ids) == []
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
