"""A tunnel's channel as the kubelet service sees it: an exchange to be awaited on."""

import asyncio
from collections import deque

from streamkit.errors import ChannelReset, LocalProtocolError, StreamError
from streamkit.session.channel import Channel
from streamkit.wire.exchange import RequestHead, ResponseHead

MAX_READ = 64 * 1024


class ChannelExchange:
    """Both the channel's handler and the kubelet service's ``Exchange``."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._received: deque[bytes | memoryview] = deque()
        self._is_ended = False
        self._error: StreamError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._owner: asyncio.Task[None] | None = None
        self.is_headed = False
        self.status = 0
        """The answer's; 0 while it has no head."""

    def owned_by(self, task: "asyncio.Task[None]") -> None:
        """The task that answers, cancelled when the channel is lost."""
        self._owner = task
        if self._error:
            task.cancel()

    # -- Exchange ----------------------------------------------------------------------------

    @property
    def request(self) -> RequestHead:
        return self._channel.request

    async def send_head(self, head: ResponseHead) -> None:
        if self.is_headed:
            raise LocalProtocolError("an answer has one head")
        self.is_headed = True
        self.status = head.status
        self._channel.send_head(head)

    async def write(self, data: bytes) -> None:
        self._raise_if_lost()
        self._channel.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            self._raise_if_lost()

    async def end(self) -> None:
        self._channel.end()

    async def read(self) -> bytes:
        while not self._received:
            self._raise_if_lost()
            if self._is_ended:
                return b""
            # A bare future: an event would cost more than what is read in one go.
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._received.popleft()
        if len(data) > MAX_READ:
            view = memoryview(data)
            self._received.appendleft(view[MAX_READ:])
            data = view[:MAX_READ]
        self._channel.consumed(len(data))
        return bytes(data)

    # -- ChannelHandler ------------------------------------------------------------------------

    def head_received(self, head: ResponseHead) -> None:
        raise LocalProtocolError("an edge receives no head")

    def data_received(self, data: bytes | memoryview) -> None:
        self._received.append(data)
        self._wake_reader()

    def end_received(self) -> None:
        self._is_ended = True
        self._wake_reader()

    def reset_received(self, error: StreamError) -> None:
        # The owner is cancelled, and with it whatever waits here; nobody is woken to find an error.
        self._error = error
        if self._owner:
            self._owner.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _wake_reader(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    def _raise_if_lost(self) -> None:
        if self._error:
            raise ChannelReset(str(self._error))
