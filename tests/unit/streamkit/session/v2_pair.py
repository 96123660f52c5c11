"""Both sides' v2 sessions, connected without a socket."""

from typing import Any

from streamkit.errors import (
    ChannelReset,
    TunnelClosed,
)
from streamkit.session.channel import Channel
from streamkit.session.v2 import V2CloudSession, V2EdgeSession, V2Session
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.v2 import V2Settings
from tests.support.handler import RecordingHandler
from tests.support.messages import messages_of

GET = RequestHead("GET", "/containerLogs/default/web/c")
UPGRADE = RequestHead("POST", "/exec/default/web/c", (("Connection", "Upgrade"),))
HEAD = ResponseHead(200)
SETTINGS = V2Settings(window=1000, max_window=4000, resume_timeout=30)
GONE = ChannelReset("the caller went away")
LOST = TunnelClosed("the link broke")


class Pair:
    """A session on each side, greeted; ``settle`` carries all that either has to say."""

    def __init__(self, settings: V2Settings = SETTINGS, *, edge_consumes: bool = True) -> None:
        self.cloud = V2CloudSession("s1", settings)
        self.edge = V2EdgeSession(self.accept, settings)
        self.served: list[tuple[Channel, RecordingHandler]] = []
        self.edge_consumes = edge_consumes
        self.connect()

    def accept(self, channel: Channel) -> RecordingHandler:
        handler = RecordingHandler(channel if self.edge_consumes else None)
        self.served.append((channel, handler))
        return handler

    def connect(self) -> None:
        for session in (self.cloud, self.edge):
            session.detach()
            session.attach()
        self.settle()

    def lose(self) -> None:
        for session in (self.cloud, self.edge):
            while session.next_message() is not None:
                pass
            session.detach()

    def settle(self) -> None:
        ways: tuple[tuple[V2Session[Any], V2Session[Any]], ...]
        ways = (self.edge, self.cloud), (self.cloud, self.edge)
        is_quiet = False
        while not is_quiet:
            is_quiet = True
            for sender, receiver in ways:
                for payload in messages_of(sender):
                    receiver.message_received(payload)
                    is_quiet = False

    def open(
        self, request: RequestHead = UPGRADE, *, consumes: bool = True
    ) -> tuple[Channel, RecordingHandler]:
        """A channel with a handler at the cloud; the edge's is the last one served."""
        handler = RecordingHandler()
        channel = self.cloud.open(request, handler)
        if consumes:
            handler.channel = channel
        self.settle()
        return channel, handler

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of any channel, on either side and in either layer."""
        for session in (self.cloud, self.edge):
            if session.channel_count or session.paused or list(session.mux.channel_ids):
                return False
        return True
