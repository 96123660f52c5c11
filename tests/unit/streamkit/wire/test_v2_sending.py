"""What is sent first, how much of it, and what leaves together."""

from collections.abc import Callable, Iterator

import pytest

from streamkit.errors import (
    RemoteProtocolError,
)
from streamkit.wire.events import Opened, Received
from streamkit.wire.v2 import MESSAGE_SIZE, V2Settings
from streamkit.wire.v2_message import (
    MAX_BATCH,
    MAX_BATCHED,
    V2Type,
    encode_batch,
)
from streamkit.wire.v2_sides import V2Cloud, V2Edge
from tests.support.messages import messages_of
from tests.unit.streamkit.wire.v2_link import (
    GET,
    HEAD,
    LongLink,
    Pair,
    parts_of,
    sent,
    taken_apart,
)

MBIT = 1e6 / 8


# -- the order of sending ------------------------------------------------------------------------


def test_control_goes_first_and_data_takes_turns() -> None:
    settings = V2Settings(window=10 * MESSAGE_SIZE, max_window=10 * MESSAGE_SIZE)
    link = LongLink(rate=1e12, delay=0, settings=settings)
    for _ in range(2):
        link.step()
    ids = [link.cloud.open(GET) for _ in range(3)]
    for channel_id in ids:
        link.cloud.send_data(channel_id, bytes(2 * MESSAGE_SIZE))
    link.cloud.send_drain("x")
    order = [(channel_id, kind) for channel_id, kind, _ in sent(link.cloud)]
    assert order == [
        (0, V2Type.DRAIN),
        *((channel_id, V2Type.OPEN) for channel_id in ids),
        *((channel_id, V2Type.DATA) for channel_id in ids),
        *((channel_id, V2Type.DATA) for channel_id in ids),
    ]


def test_a_stalled_reader_stops_its_own_channel_alone() -> None:
    pair = Pair()
    stalled, other = pair.opened(), pair.opened()
    pair.edge.send_data(stalled, bytes(5000))
    received = 0
    for _ in range(20):
        pair.edge.send_data(other, bytes(1000))
        pair.settle()
        for event in pair.seen()[0]:
            if isinstance(event, Received) and event.channel_id == other:
                received += len(event.data)
                pair.cloud.consumed(other, len(event.data))
        pair.settle()
    assert received == 20_000
    assert pair.edge.backlog(stalled) == 4000
    assert pair.edge.backlog(other) == 0


# -- windows over a long link --------------------------------------------------------------------


def download(link: LongLink, seconds: float, *, consumes: Callable[[int], bool]) -> Iterator[float]:
    """Bytes that arrive per second, of an edge that always has more to send."""
    channel_id = link.cloud.open(GET)
    received, second = 0, 0
    is_headed = False
    while link.now < seconds and (events := link.step()) is not None:
        if is_headed and link.edge.backlog(channel_id) < 4 * MESSAGE_SIZE:
            link.edge.send_data(channel_id, bytes(4 * MESSAGE_SIZE))
        for event in events:
            if isinstance(event, Opened):
                link.edge.send_head(channel_id, HEAD)
                is_headed = True
            elif isinstance(event, Received):
                received += len(event.data)
                if consumes(len(event.data)):
                    link.cloud.consumed(channel_id, len(event.data))
        while second + 1 <= link.now:
            yield received
            received, second = 0, second + 1


def window_of(link: LongLink) -> int:
    (channel,) = link.cloud._channels.values()
    return channel.receiving.window


def test_the_window_grows_until_it_carries_a_long_fast_link() -> None:
    link = LongLink(rate=100 * MBIT, delay=0.1, settings=V2Settings())
    per_second = list(download(link, 8, consumes=lambda size: True))
    # 512 KiB in 200 ms would be a fifth of the rate.
    assert per_second[0] < 0.5 * 100 * MBIT
    assert min(per_second[-3:]) > 0.95 * 100 * MBIT
    assert 100 * MBIT * 0.2 < window_of(link) <= V2Settings().max_window


def test_the_window_stays_where_it_is_enough() -> None:
    link = LongLink(rate=100 * MBIT, delay=0.001, settings=V2Settings())
    per_second = list(download(link, 3, consumes=lambda size: True))
    assert per_second[-1] > 0.95 * 100 * MBIT
    assert window_of(link) == V2Settings().window


def test_a_reader_that_never_reads_gets_one_window() -> None:
    link = LongLink(rate=100 * MBIT, delay=0.1, settings=V2Settings())
    assert sum(download(link, 60, consumes=lambda size: False)) <= V2Settings().window
    (channel,) = link.cloud._channels.values()
    assert channel.receiving.unconsumed == channel.receiving.window == V2Settings().window
    assert list(link.edge.channel_ids) == [1]


class Nearby:
    """Two sides on a link that is faster than they are."""

    def __init__(self) -> None:
        self.now = 100.0
        settings = V2Settings()
        cloud = V2Cloud("s1", settings, lambda: self.now)
        self.pair = Pair(cloud, V2Edge(settings, lambda: self.now))
        cloud.rtt = 0.0003
        self.channel_id = self.pair.opened()

    def windows(self, seconds: float, *, times: int) -> list[int]:
        """The cloud's windows, each consumed in that time."""
        pair, found = self.pair, []
        channel = pair.cloud._channels[self.channel_id]
        for _ in range(times):
            pair.edge.send_data(self.channel_id, bytes(channel.receiving.window))
            self.now += seconds
            pair.settle()
            for event in pair.seen()[0]:
                if isinstance(event, Received):
                    pair.cloud.consumed(self.channel_id, len(event.data))
            pair.settle()
            found.append(channel.receiving.window)
        return found


def test_windows_span_the_turns_of_both_sides_where_nobody_waits_behind_them() -> None:
    first, nearby = V2Settings().window, Nearby()
    assert nearby.windows(0.0019, times=4) == [first, 2 * first, 4 * first, 8 * first]
    beside = nearby.pair.opened()
    assert nearby.windows(0.0017, times=4) == [4 * first, 2 * first, first, first]
    assert nearby.windows(0.0007, times=2) == [2 * first, 4 * first]
    nearby.pair.cloud.send_reset(beside, "KS3001", "the caller went away")
    assert nearby.windows(0.0019, times=2) == [8 * first, 16 * first]


# -- batches -------------------------------------------------------------------------------------


def test_small_messages_that_follow_each_other_leave_as_one() -> None:
    pair = Pair()
    ids = [pair.opened() for _ in range(3)]
    pair.settle()
    for channel_id in ids:
        pair.cloud.send_data(channel_id, b"x")
    (payload,) = messages_of(pair.cloud)
    assert [taken_apart(part) for part in parts_of(payload)] == [
        (channel_id, V2Type.DATA, b"x") for channel_id in ids
    ]
    events = pair.edge.receive(payload)
    assert events == [Received(channel_id, b"x") for channel_id in ids]


def test_a_batch_has_an_end() -> None:
    pair = Pair()
    ids = [pair.opened() for _ in range(100)]
    pair.settle()
    for channel_id in ids:
        pair.cloud.send_data(channel_id, bytes(900))
    sizes = [len(payload) for payload in messages_of(pair.cloud)]
    assert max(sizes) < MAX_BATCH + MAX_BATCHED
    assert len(sizes) > 1


def test_large_messages_leave_by_themselves() -> None:
    pair = Pair()
    small, large = pair.opened(), pair.opened()
    pair.settle()
    pair.cloud.send_data(small, b"x")
    pair.cloud.send_data(large, bytes(MAX_BATCHED))
    payloads = list(messages_of(pair.cloud))
    kinds = {taken_apart(payload)[:2] for payload in payloads}
    assert kinds >= {(small, V2Type.DATA), (large, V2Type.DATA)}


@pytest.mark.parametrize("part", ["00 10 7b 7d", "00 18"])
def test_what_has_no_place_in_a_batch(part: str) -> None:
    pair = Pair()
    pair.settle()
    with pytest.raises(RemoteProtocolError):
        pair.edge.receive(encode_batch([bytes.fromhex(part)]))
