"""Two muxes, two applications, and a link between them that can be cut at any message.

Everything that happens is drawn from one seeded random number generator, so a seed is a whole
history. The applications check each event against what the other one did.
"""

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from streamkit.wire.events import Ended, Event, Headed, Opened, Received, WasReset
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.v2 import V2Mux, V2Settings
from streamkit.wire.v2_sides import V2Cloud, V2Edge
from streamkit.wire.v2_stream import SendStream

Side = Literal["cloud", "edge"]
SIDES: tuple[Side, Side] = ("cloud", "edge")
OTHER: dict[Side, Side] = {"cloud": "edge", "edge": "cloud"}

FAILED, GONE = "KS5004", "KS3001"


@dataclass
class Way:
    """One direction of one channel: what its writer did, and what its reader has seen."""

    is_open: bool
    """The writer has sent its opening."""
    written: bytearray = field(default_factory=bytearray)
    end: Literal["", "end", "failure"] = ""
    is_left: bool = False
    """The writer's application has no such channel any more."""
    got: bytearray = field(default_factory=bytearray)
    got_opening: bool = False
    got_end: bool = False
    unconsumed: int = 0
    pace: Literal["at once", "slow", "never"] = "at once"
    is_abandoned: bool = False


class Channel:
    """Both directions of one channel, each by the name of the side that writes it."""

    def __init__(self, number: int) -> None:
        self.request = RequestHead("GET", f"/{number}", (("X", "y"),))
        self.ways: dict[Side, Way] = {"cloud": Way(is_open=True), "edge": Way(is_open=False)}
        self.has_lost_its_edge = False

    def is_ended(self, side: Side) -> bool:
        """Whether the side knows both directions' ends."""
        return bool(self.ways[side].end) and self.ways[OTHER[side]].got_end


class World:
    """The two sides and all that can happen to them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        window = self.random.choice((1, 7, 1000))
        self.settings = V2Settings(window, window * self.random.choice((1, 4)), 30.0)
        self.high_water = 2 * window
        self.write_sizes = (1, window, 3 * window)
        self.time = 0.0
        self.sessions = 0
        self.channels: list[Channel] = []
        self.tables: dict[Side, dict[int, Channel]] = {"cloud": {}, "edge": {}}
        """Each application's channels by their ids."""
        self.flying: dict[Side, deque[bytes]] = {"cloud": deque(), "edge": deque()}
        """Messages on their way, by their sender."""
        self.is_connected = False
        self.cloud = self.new_cloud()
        self.edge = V2Edge(self.settings, self.clock)

    def mux(self, side: Side) -> V2Mux:
        return self.cloud if side == "cloud" else self.edge

    def new_cloud(self) -> V2Cloud:
        self.sessions += 1
        return V2Cloud(f"session-{self.sessions}", self.settings, self.clock)

    def clock(self) -> float:
        self.time += self.random.random()
        return self.time

    # -- the link --------------------------------------------------------------------------

    def connect(self) -> None:
        """A new tunnel; the cloud may have believed in the old one until now."""
        self.lose_what_flies()
        if self.edge.session != self.cloud.session:
            for channel in self.tables["cloud"].values():
                channel.has_lost_its_edge = True
        for side in SIDES:
            self.mux(side).detach()
            self.mux(side).rtt = self.random.choice((0.0, 0.01, 1.0, 1000.0))
            self.mux(side).attach()
        self.is_connected = True

    def lose_what_flies(self) -> None:
        self.is_connected = False
        for flying in self.flying.values():
            flying.clear()

    def cut(self) -> None:
        """What flies arrives up to some message in each direction; the rest is lost.

        A side notices at once, or only with the next tunnel.
        """
        for side in self.random.sample(SIDES, 2):
            for _ in range(self.random.randint(0, len(self.flying[side]))):
                self.deliver(side)
        self.lose_what_flies()
        for side in SIDES:
            if self.random.random() < 0.5:
                self.mux(side).detach()

    def pump(self, side: Side, most: int) -> None:
        """Messages leave a side."""
        for _ in range(most):
            message = self.mux(side).next_message()
            if message is None:
                return
            if self.is_connected:
                self.flying[side].append(b"".join(message))

    def deliver(self, sender: Side) -> None:
        """One message arrives."""
        receiver = OTHER[sender]
        for event in self.mux(receiver).receive(self.flying[sender].popleft()):
            self.happen(receiver, event)

    # -- what the applications do ----------------------------------------------------------

    def open(self) -> None:
        channel = Channel(len(self.channels))
        for way in channel.ways.values():
            way.pace = self.random.choice(("at once", "at once", "slow", "never"))
        self.channels.append(channel)
        self.tables["cloud"][self.cloud.open(channel.request)] = channel

    def head(self, channel_id: int, channel: Channel) -> None:
        if not channel.ways["edge"].is_open:
            channel.ways["edge"].is_open = True
            self.edge.send_head(channel_id, ResponseHead(200, channel.request.headers, "Fine"))

    def write(self, side: Side, channel_id: int, way: Way) -> None:
        if way.is_open and not way.end and self.mux(side).backlog(channel_id) <= self.high_water:
            data = self.random.randbytes(self.random.choice(self.write_sizes))
            way.written += data
            self.mux(side).send_data(channel_id, data)

    def end(self, side: Side, channel_id: int, way: Way) -> None:
        if way.is_open:
            way.end = way.end or "end"
            self.mux(side).send_end(channel_id)

    def fail(self, side: Side, channel_id: int, way: Way) -> None:
        if way.is_open:
            way.end = way.end or "failure"
            self.leave(side, channel_id)
            self.mux(side).send_failure(channel_id, FAILED, "the disk is gone")

    def reset(self, side: Side, channel_id: int) -> None:
        self.leave(side, channel_id)
        self.mux(side).send_reset(channel_id, GONE, "enough")

    def leave(self, side: Side, channel_id: int) -> None:
        self.tables[side].pop(channel_id).ways[side].is_left = True

    def consume(self, side: Side, channel_id: int, way: Way, size: int) -> None:
        way.unconsumed -= size
        self.mux(side).consumed(channel_id, size)

    def abandon(self, side: Side, channel_id: int, way: Way) -> None:
        way.is_abandoned = True
        way.unconsumed = 0
        self.mux(side).abandon(channel_id)

    def restart_edge(self) -> None:
        """The agent begins anew; the cloud still has the session."""
        for channel_id in tuple(self.tables["edge"]):
            self.leave("edge", channel_id)
        self.edge = V2Edge(self.settings, self.clock)
        self.lose_what_flies()

    def restart_cloud(self) -> None:
        """The service begins anew, or the session ended there."""
        for channel_id in tuple(self.tables["cloud"]):
            self.leave("cloud", channel_id)
        self.cloud = self.new_cloud()
        self.lose_what_flies()

    # -- what the applications see -----------------------------------------------------------

    def happen(self, side: Side, event: Event) -> None:
        """Check one event against what the other side did."""
        match event:
            case Opened(channel_id, request):
                channel = self.channels[int(request.target[1:])]
                assert request == channel.request
                assert not channel.ways["cloud"].got_opening, "a request was made twice"
                channel.ways["cloud"].got_opening = True
                self.tables["edge"][channel_id] = channel
            case Headed(channel_id, head) if channel_id in self.tables[side]:
                way = self.incoming(side, channel_id)
                assert way.is_open
                assert not way.got_opening
                assert head == ResponseHead(200, (("X", "y"),), "Fine")
                way.got_opening = True
            case Received(channel_id, data):
                way = self.incoming(side, channel_id)
                assert way.got_opening
                assert not way.got_end
                assert not way.is_abandoned
                assert way.written.startswith(data, len(way.got)), "bytes lost or repeated"
                way.got += data
                way.unconsumed += len(data)
                if way.pace == "at once":
                    self.consume(side, channel_id, way, len(data))
            case Ended(channel_id) if channel_id in self.tables[side]:
                way = self.incoming(side, channel_id)
                assert way.end == "end"
                assert way.is_abandoned or way.got == way.written, "short, and looks complete"
                way.got_end = True
            case WasReset(channel_id, code, _) if channel_id in self.tables[side]:
                channel = self.tables[side][channel_id]
                way = channel.ways[OTHER[side]]
                if not channel.is_ended(side):
                    assert way.is_left or channel.has_lost_its_edge, "reset for no reason"
                if code == FAILED:
                    assert way.end == "failure"
                    assert way.is_abandoned or way.got == way.written, "cut, before its failure"
                self.leave(side, channel_id)

    def incoming(self, side: Side, channel_id: int) -> Way:
        return self.tables[side][channel_id].ways[OTHER[side]]

    # -- time passes ---------------------------------------------------------------------------

    def step(self) -> None:
        """One thing happens."""
        self.link_step() if self.random.random() < 0.6 else self.application_step()
        if self.random.random() < 0.1:
            self.check_memory()

    def link_step(self) -> None:
        chance = self.random.random()
        side = self.random.choice(SIDES)
        if not self.is_connected and chance < 0.6:
            self.connect()
        elif chance < 0.45:
            self.pump(side, self.random.choice((1, 3, 100)))
        elif chance < 0.96:
            for _ in range(self.random.choice((1, 2, 8))):
                if self.flying[side]:
                    self.deliver(side)
        elif chance < 0.994:
            self.cut()
        elif chance < 0.997:
            self.restart_edge()
        else:
            self.restart_cloud()

    def application_step(self) -> None:
        side = self.random.choice(SIDES)
        table = self.tables[side]
        if not table or self.random.random() < 0.08:
            if len(self.tables["cloud"]) < 4:
                self.open()
            return
        channel_id = self.random.choice(tuple(table))
        channel = table[channel_id]
        way, incoming = channel.ways[side], channel.ways[OTHER[side]]
        chance = self.random.random()
        if side == "edge" and not way.is_open and chance < 0.8:
            self.head(channel_id, channel)
        elif chance < 0.65:
            self.write(side, channel_id, way)
        elif chance < 0.9:
            if incoming.pace == "slow" and incoming.unconsumed and not incoming.is_abandoned:
                size = self.random.randint(1, incoming.unconsumed)
                self.consume(side, channel_id, incoming, size)
        elif chance < 0.95:
            self.end(side, channel_id, way)
        elif chance < 0.97:
            self.fail(side, channel_id, way)
        elif chance < 0.98:
            self.abandon(side, channel_id, incoming)
        else:
            self.reset(side, channel_id)

    def settle(self) -> None:
        """The link holds, and everybody but the readers that never read goes on to the end."""
        if not self.is_connected:
            self.connect()
        while True:
            for side in SIDES:
                for channel_id in tuple(self.tables[side]):
                    way = self.incoming(side, channel_id)
                    if way.pace != "never" and way.unconsumed:
                        self.consume(side, channel_id, way, way.unconsumed)
                self.pump(side, 1 << 20)
            if not any(self.flying.values()):
                return
            for side in SIDES:
                while self.flying[side]:
                    self.deliver(side)

    def finish(self) -> None:
        """Every channel is brought to an end, one way or another."""
        for side in self.random.sample(SIDES, 2):
            for channel_id, channel in tuple(self.tables[side].items()):
                incoming = channel.ways[OTHER[side]]
                incoming.pace = "at once"
                if self.random.random() < 0.2:
                    self.reset(side, channel_id)
                elif side == "edge":
                    self.head(channel_id, channel)
                if channel_id in self.tables[side]:
                    self.end(side, channel_id, channel.ways[side])
                    if incoming.unconsumed:
                        self.consume(side, channel_id, incoming, incoming.unconsumed)
        self.settle()

    # -- what holds ----------------------------------------------------------------------------

    def check_memory(self) -> None:
        """No side keeps more of a channel than the windows and the water marks say."""
        most = self.settings.max_window
        for side in SIDES:
            for channel in self.mux(side)._channels.values():
                sending, receiving = channel.sending, channel.receiving
                kept = sum(map(len, sending._unsent)) + sum(map(len, sending._sent_pieces))
                assert kept == data_before(sending, sending.total) - data_before(
                    sending, sending.acked
                )
                assert sending.sent - sending.acked <= most + 2
                assert kept <= most + self.high_water + max(self.write_sizes)
                assert self.settings.window <= receiving.window <= most
                assert 0 <= receiving.unconsumed <= most

    def check_agreement(self) -> None:
        """Nothing lives on one side alone, and nothing more is to be sent."""
        assert self.cloud._channels.keys() == self.edge._channels.keys()
        for side in SIDES:
            mux = self.mux(side)
            assert not mux.has_output
            for channel_id, channel in self.tables[side].items():
                assert channel_id in mux._channels or channel.is_ended(side)
        for channel in self.tables["cloud"].values():
            if any(way.is_left for way in channel.ways.values()):
                continue
            for way in channel.ways.values():
                if way.pace != "never" and not way.is_abandoned:
                    assert way.got_opening is way.is_open
                    assert way.got == way.written
                    assert way.got_end is bool(way.end)

    def check_emptiness(self) -> None:
        """All channels are over, and no trace of them is left."""
        assert not self.cloud._channels
        assert not self.edge._channels
        for side in SIDES:
            assert all(channel.is_ended(side) for channel in self.tables[side].values())


def data_before(stream: SendStream, position: int) -> int:
    """How many data bytes lie before a position."""
    return max(0, position - 1 - int(stream.is_ended and position == stream.total))
