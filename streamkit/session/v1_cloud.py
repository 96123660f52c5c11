"""The cloud's v1 session: every request goes out as ExecConnect, the raw answer is decoded."""

from streamkit.errors import (
    BadRequest,
    IncompleteAnswer,
    LocalProtocolError,
    RemoteProtocolError,
    StreamError,
)
from streamkit.http.answer import AnswerDecoder
from streamkit.http.headers import end_to_end
from streamkit.session.channel import Channel, ChannelHandler
from streamkit.session.session import CloudSession
from streamkit.session.v1_base import V1Channel, V1Session
from streamkit.wire.exchange import RequestHead, ResponseHead, without_headers
from streamkit.wire.v1 import V1Cloud


class V1CloudSession(V1Session[V1Cloud], CloudSession):
    """Opens channels towards a stock edge, or towards ours when it speaks v1."""

    def __init__(self, *, buffer_limit: int) -> None:
        super().__init__(V1Cloud(buffer_limit=buffer_limit))

    def open(self, request: RequestHead, handler: ChannelHandler, body: bytes = b"") -> Channel:
        if self._error is not None:
            raise self._error
        if body:
            raise BadRequest("v1, which this edge node speaks, carries no bodies of requests")
        head = request
        if not request.is_upgrade:
            # The edge relays until its kubelet closes, so the kubelet is asked to close. A length
            # of zero is the edge's to announce.
            headers = without_headers(end_to_end(request.headers), ("content-length",))
            head = RequestHead(request.method, request.target, (*headers, ("Connection", "close")))
        channel = V1CloudChannel(self.mux.open(head), request, self)
        channel.handler = handler
        self._channels[channel.channel_id] = channel
        self.output_ready()
        return channel

    def remove(self, channel_id: int) -> None:
        """Tell the edge that the channel is over."""
        self.mux.remove(channel_id)
        self.output_ready()


class V1CloudChannel(V1Channel[V1CloudSession]):
    """Reads the kubelet's raw answer as head, body and end."""

    def __init__(self, channel_id: int, request: RequestHead, session: V1CloudSession) -> None:
        super().__init__(channel_id, request, session)
        self._decoder = AnswerDecoder(request)

    def send_head(self, head: ResponseHead) -> None:
        raise LocalProtocolError("the cloud sends no head")

    def end(self) -> None:
        # v1 has no half-close: a caller that ended an upgraded stream is gone. A plain request has
        # no body, so its end says nothing.
        if self.request.is_upgrade and self.finish():
            self._session.remove(self.channel_id)

    def reset(self, error: StreamError) -> None:
        if self.finish():
            self._session.remove(self.channel_id)

    def data_received(self, data: bytes | memoryview) -> None:
        try:
            self._pass_on(self._decoder.feed(data), len(data))
        except RemoteProtocolError as error:
            self._session.remove(self.channel_id)
            self.fail(IncompleteAnswer(str(error)))

    def end_received(self) -> None:
        try:
            self._pass_on(self._decoder.feed_eof(), 0)
        except IncompleteAnswer as error:
            self.fail(error)

    def _pass_on(self, found: list[ResponseHead | bytes | memoryview], raw_size: int) -> None:
        # The mux counts raw bytes, the handler reports bytes of the body: settle the difference.
        body_size = sum(len(item) for item in found if not isinstance(item, ResponseHead))
        self.consumed(raw_size - body_size)
        for item in found:
            if not self.is_open:
                return
            if isinstance(item, ResponseHead):
                self.handler.head_received(item)
            else:
                self.handler.data_received(item)
        if self._decoder.is_complete and self.finish():
            if self.request.is_upgrade:
                # A kubelet that refuses an upgrade keeps its connection, and so would the edge.
                self._session.remove(self.channel_id)
            self.handler.end_received()
