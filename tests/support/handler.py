"""A channel's handler that records what it is told."""

from streamkit.errors import StreamError
from streamkit.session.channel import Channel
from streamkit.wire.exchange import ResponseHead


class RecordingHandler:
    """A ``ChannelHandler``. With a channel given it reports what it gets as consumed at once."""

    def __init__(self, channel: Channel | None = None) -> None:
        self.channel = channel
        self.heads: list[ResponseHead] = []
        self.body = bytearray()
        self.ends = 0
        self.errors: list[StreamError] = []
        self.is_paused = False

    def head_received(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def data_received(self, data: bytes | memoryview) -> None:
        assert not self.ends, "data behind the end"
        assert not self.errors, "data behind a reset"
        self.body += data
        if self.channel:
            self.channel.consumed(len(data))

    def end_received(self) -> None:
        assert not self.errors, "an end behind a reset"
        self.ends += 1

    def reset_received(self, error: StreamError) -> None:
        self.errors.append(error)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False


class BrokenHandler(RecordingHandler):
    """A handler with a bug."""

    def data_received(self, data: bytes | memoryview) -> None:
        raise ValueError("secret")
