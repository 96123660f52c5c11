"""Two muxes joined by a link that does what the test says."""

import json
from heapq import heappop, heappush
from itertools import count

from streamkit.wire.events import Event, WasReset
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import decode_message
from streamkit.wire.v2 import V2Mux, V2Settings
from streamkit.wire.v2_message import V2Type, decode_batch
from streamkit.wire.v2_sides import V2Cloud, V2Edge
from tests.support.messages import messages_of

GET = RequestHead("GET", "/pods")
HEAD = ResponseHead(200)
SETTINGS = V2Settings(window=1000, max_window=4000, resume_timeout=30)

Sent = tuple[int, int, bytes]


def sent(mux: V2Mux) -> list[Sent]:
    """All that the mux has to send now: ids, types and data. Batches are taken apart."""
    payloads = messages_of(mux)
    return [taken_apart(part) for payload in payloads for part in parts_of(payload)]


def parts_of(payload: bytes) -> list[bytes]:
    """The messages of a batch, or the message itself."""
    found = decode_message(payload)
    return list(decode_batch(found.data)) if found.type == V2Type.BATCH else [payload]


def taken_apart(payload: bytes) -> Sent:
    message = decode_message(payload)
    return message.channel_id, message.type, bytes(message.data)


def new_cloud(session: str = "s1") -> V2Cloud:
    return V2Cloud(session, SETTINGS, lambda: 0.0)


def new_edge() -> V2Edge:
    return V2Edge(SETTINGS, lambda: 0.0)


class Pair:
    """A cloud and an edge, greeted; ``settle`` carries all that either has to say."""

    def __init__(self, cloud: V2Cloud | None = None, edge: V2Edge | None = None) -> None:
        self.cloud = cloud or new_cloud()
        self.edge = edge or new_edge()
        self.at_cloud: list[Event] = []
        self.at_edge: list[Event] = []
        self.connect()

    def connect(self) -> None:
        """A new tunnel, and whatever goes over it."""
        for mux in (self.cloud, self.edge):
            mux.detach()
            mux.attach()
        self.settle()

    def lose(self) -> None:
        """The tunnel is lost, with all that the sides send until they notice."""
        for mux in (self.cloud, self.edge):
            sent(mux)
            mux.detach()

    def settle(self) -> None:
        is_quiet = False
        while not is_quiet:
            is_quiet = True
            for payload in messages_of(self.edge):
                self.at_cloud += self.cloud.receive(payload)
                is_quiet = False
            for payload in messages_of(self.cloud):
                self.at_edge += self.edge.receive(payload)
                is_quiet = False

    def seen(self) -> tuple[list[Event], list[Event]]:
        """What happened since the last time, at the cloud and at the edge."""
        events = self.at_cloud, self.at_edge
        self.at_cloud, self.at_edge = [], []
        return events

    def opened(self, *, headed: bool = True) -> int:
        """A channel that both sides know."""
        channel_id = self.cloud.open(GET)
        self.settle()
        if headed:
            self.edge.send_head(channel_id, HEAD)
            self.settle()
        self.seen()
        return channel_id


class LongLink:
    """A link with a rate and a delay, in time that only events move on."""

    def __init__(self, *, rate: float, delay: float, settings: V2Settings) -> None:
        self.now = 0.0
        self.cloud = V2Cloud("s1", settings, lambda: self.now)
        self.edge = V2Edge(settings, lambda: self.now)
        self.cloud.rtt = self.edge.rtt = 2 * delay
        self._rate = rate
        self._delay = delay
        self._free_at: dict[V2Mux, float] = {self.cloud: 0.0, self.edge: 0.0}
        self._flying: list[tuple[float, int, V2Mux, bytes]] = []
        self._order = count()
        for mux in (self.cloud, self.edge):
            mux.attach()

    def step(self) -> list[Event] | None:
        """Both sides send, a little ahead of the link, and the next message arrives.

        Gives what that message brings; None where nothing is on its way.
        """
        ways: tuple[tuple[V2Mux, V2Mux], ...]
        ways = (self.cloud, self.edge), (self.edge, self.cloud)
        for sender, receiver in ways:
            ahead = self.now + 0.01
            while self._free_at[sender] <= ahead and (pieces := sender.next_message()):
                payload = b"".join(pieces)
                begin = max(self.now, self._free_at[sender])
                self._free_at[sender] = begin + len(payload) / self._rate
                arrives = self._free_at[sender] + self._delay
                heappush(self._flying, (arrives, next(self._order), receiver, payload))
        if not self._flying:
            return None
        self.now, _, arrives_at, payload = heappop(self._flying)
        return arrives_at.receive(payload)


def reset(channel_id: int, code: str, sentence: str) -> WasReset:
    """The event of a channel that the peer has reset."""
    return WasReset(channel_id, code, sentence)


def reason(code: str, sentence: str) -> bytes:
    """What a failed end carries."""
    return json.dumps({"code": code, "sentence": sentence}, separators=(",", ":")).encode()
