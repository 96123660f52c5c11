"""v2: what only the cloud does, and what only the edge does."""

from collections.abc import Callable
from itertools import count

from streamkit.errors import RemoteProtocolError, TunnelClosed
from streamkit.wire.events import Event, Headed, Opened
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.v2 import V2Mux, V2Settings
from streamkit.wire.v2_message import (
    Hello,
    V2Type,
    decode_head,
    decode_open,
    encode_head,
    encode_open,
    encode_reset,
)

_FROM_EITHER = frozenset(
    (V2Type.HELLO, V2Type.BATCH, V2Type.DATA, V2Type.END, V2Type.RESET, V2Type.WINDOW)
)


class V2Cloud(V2Mux):
    """The cloud's side: names the session and opens channels."""

    takes = _FROM_EITHER | {V2Type.HEAD, V2Type.DRAIN}

    def __init__(self, session: str, settings: V2Settings, clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self.session = session
        self._ids = count(1)

    def open(self, request: RequestHead) -> int:
        """Open a channel; returns its id. It waits where no tunnel is attached.

        Raises BadConnectRequest for a request that can't be carried.
        """
        channel_id = next(self._ids)
        opening = encode_open(channel_id, request)
        channel = self._add(channel_id)
        channel.sending.open(opening)
        self._turns.release(channel)
        return channel_id

    def _greet(self, hello: Hello) -> list[Event]:
        if hello.session == self.session:
            events = self._reconcile(hello, is_lost_open=lambda key: key > hello.opened)
        else:
            hello = Hello(self.session, hello.window, hello.resume_timeout)
            events = self._start_over(hello)
        self._greeting = self._hello()
        self._resume(hello)
        return events

    def _start_over(self, hello: Hello) -> list[Event]:
        """The edge has no past with this session, though this side may have one.

        A request that may have reached the edge's former life is not made twice.
        """
        events: list[Event] = []
        for channel_id, channel in tuple(self._channels.items()):
            if channel.sending.sent:
                events += self._lose(channel_id, "the edge agent began anew")
            else:
                channel.sending.begin_anew(hello.window)
        return events

    def _receive_opening(self, channel_id: int, data: bytes | memoryview) -> list[Event]:
        head = decode_head(data)
        channel = self._channels.get(channel_id)
        if channel is None:
            return self._stray()
        channel.receiving.receive_opening()
        return [Headed(channel_id, head)]


class V2Edge(V2Mux):
    """The edge's side: says hello first, serves what the cloud opens."""

    takes = _FROM_EITHER | {V2Type.OPEN, V2Type.DRAIN}

    def __init__(self, settings: V2Settings, clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self._opened = 0

    def attach(self) -> None:
        super().attach()
        self._greeting = self._hello(opened=self._opened)

    def send_head(self, channel_id: int, head: ResponseHead) -> None:
        """Queue the answer's head.

        Raises IncompleteAnswer for one that can't be carried, LocalProtocolError for a second one.
        """
        if channel := self._channels.get(channel_id):
            channel.sending.open(encode_head(channel_id, head))
            self._turns.release(channel)

    def _greet(self, hello: Hello) -> list[Event]:
        if not hello.session:
            raise RemoteProtocolError("the cloud gave the session no name")
        events: list[Event] = []
        if hello.session != self.session:
            for channel_id in self.channel_ids:
                events += self._lose(channel_id, "the cloud began a new session")
            self.session = hello.session
            self._opened = 0
        for channel_id in hello.received:
            if channel_id not in self._channels and channel_id <= self._opened:
                # Given up here since this tunnel's first message was written.
                sentence = "the edge gave the request up while the tunnel was away"
                self._turns.send(encode_reset(channel_id, TunnelClosed.code, sentence))
        events += self._reconcile(hello, is_lost_open=lambda _: False)
        self._resume(hello)
        return events

    def _receive_opening(self, channel_id: int, data: bytes | memoryview) -> list[Event]:
        request = decode_open(data)
        if channel_id <= self._opened:
            raise RemoteProtocolError("a channel id was used twice")
        self._opened = channel_id
        self._add(channel_id).receiving.receive_opening()
        return [Opened(channel_id, request)]
