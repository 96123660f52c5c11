"""The edge's v1 session: serves what a cloud opens with KubeEdge's connect messages."""

import logging

from streamkit.errors import ChannelOverflow, StreamError
from streamkit.http.answer import AnswerEncoder
from streamkit.session.session import ChannelAcceptor
from streamkit.session.v1_base import V1Channel, V1Session
from streamkit.wire.events import Event, Opened, Refused, WasReset
from streamkit.wire.exchange import RequestHead, ResponseHead, without_headers
from streamkit.wire.pod_facts import with_facts
from streamkit.wire.v1 import V1Edge

log = logging.getLogger(__name__)


class V1EdgeSession(V1Session[V1Edge]):
    """Hands each channel that the cloud opens to the acceptor."""

    def __init__(self, acceptor: ChannelAcceptor, *, buffer_limit: int) -> None:
        super().__init__(V1Edge(buffer_limit=buffer_limit))
        self._acceptor = acceptor

    def send_end(self, channel_id: int) -> None:
        """Let a RemoveConnect follow what is queued."""
        self.mux.send_end(channel_id)
        self.output_ready()

    def _handle(self, event: Event) -> None:
        match event:
            case Opened(channel_id, request, body_only):
                # v1 has no place for facts: these would be what the caller makes up.
                head = with_facts(_without_body(request), None)
                channel = V1EdgeChannel(channel_id, head, self, body_only=body_only)
                self._channels[channel_id] = channel
                channel.handler = self._acceptor(channel)
            case Refused(channel_id, sentence):
                log.warning("channel %d is refused: %s", channel_id, sentence)
            case _:
                if isinstance(event, WasReset) and event.code == ChannelOverflow.code:
                    log.warning("channel %d is reset: %s", event.channel_id, event.sentence)
                super()._handle(event)


class V1EdgeChannel(V1Channel[V1EdgeSession]):
    """Writes the answer as a kubelet would: raw HTTP, or the body alone where that is the kind."""

    def __init__(
        self, channel_id: int, request: RequestHead, session: V1EdgeSession, *, body_only: bool
    ) -> None:
        super().__init__(channel_id, request, session)
        self._encoder = None if body_only else AnswerEncoder(request)
        self._has_head = False

    def send_head(self, head: ResponseHead) -> None:
        self._has_head = True
        if self._encoder and self.is_open:
            super().write(self._encoder.head(head))

    def write(self, data: bytes | memoryview) -> None:
        if self.is_open:
            super().write(self._encoder.data(data) if self._encoder else data)

    def end(self) -> None:
        if self.is_open:
            if self._encoder:
                super().write(self._encoder.end())
            self.finish()
            self._session.send_end(self.channel_id)
            # v1 has no half-close: the end of one direction is that of the other.
            self.handler.end_received()

    def reset(self, error: StreamError) -> None:
        if not self.is_open:
            return
        if self._encoder is None and self._has_head:
            # This kind of channel has no other way to tell the reader that something is missing.
            super().write(f"\n{error}\n".encode())
        # What is queued still goes out; it lacks its end, which tells the cloud that it broke off.
        self.finish()
        self._session.send_end(self.channel_id)

    def data_received(self, data: bytes | memoryview) -> None:
        self.handler.data_received(data)

    def end_received(self) -> None:
        """A cloud's RemoveConnect comes as a reset; there is no other end."""


def _without_body(request: RequestHead) -> RequestHead:
    """v1 carries no request bodies: a handler must not wait for one that is announced."""
    if request.is_upgrade:
        return request
    headers = without_headers(request.headers, ("content-length", "transfer-encoding"))
    return RequestHead(request.method, request.target, headers)
