"""Carries one request of the API server over a channel and the answer back."""

import asyncio
import logging
from enum import Enum, auto
from typing import Protocol

from cloudstream.answers import MAX_BODY, needs_reshaping, reshaped
from cloudstream.kubelet_path import Subject
from cloudstream.places import ChannelOpener
from cloudstream.session_end import ENDED_WITHOUT_STATUS, SessionEnd, session_end_of
from streamkit.errors import ChannelReset, IncompleteAnswer, OpenTimeout, StreamError
from streamkit.session.channel import Channel
from streamkit.wire.exchange import RequestHead, ResponseHead, without_headers

log = logging.getLogger(__name__)


class Client(Protocol):
    """The API server's connection, as the relay writes to it. Nothing here blocks or raises."""

    @property
    def is_writable(self) -> bool:
        """Whether the connection takes more without queueing beyond its high-water mark."""

    def send_head(self, head: ResponseHead) -> None:
        """Status and headers of a plain answer."""

    def send_body(self, data: bytes | memoryview) -> None:
        """A piece of a plain answer."""

    def send_end(self) -> None:
        """The plain answer is complete."""

    def switch_protocols(self, head: ResponseHead) -> None:
        """The 101; from now on bytes are relayed."""

    def send_raw(self, data: bytes | memoryview) -> None:
        """Relayed bytes."""

    def finish(self) -> None:
        """The relayed stream is complete: deliver it, then close."""

    def abort(self) -> None:
        """Close so that the client sees a broken answer."""

    def pause_reading(self) -> None:
        """Take no more from the client for now."""

    def resume_reading(self) -> None:
        """Take more from the client."""


class _Stage(Enum):
    OPENING = auto()
    BODY = auto()
    ERROR_BODY = auto()
    RAW = auto()
    DONE = auto()


class Relay:
    """One exchange between a client and an edge. A ChannelHandler on the channel's side."""

    def __init__(
        self, client: Client, request: RequestHead, subject: Subject, body: bytes = b""
    ) -> None:
        self._client = client
        self._request = request
        self._subject = subject
        self._body = body
        self._stage = _Stage.OPENING
        self._channel: Channel | None = None
        loop = asyncio.get_running_loop()
        self._headed: asyncio.Future[StreamError | None] = loop.create_future()
        self._finished: asyncio.Future[StreamError | None] = loop.create_future()
        self._unconsumed = 0
        self._session_end: SessionEnd | None = None
        self._error_head: ResponseHead | None = None
        self._error_body = bytearray()
        self.status = 0
        self.keeps_not_found = False
        """Whether a 404 that has to be reshaped waits for ``deliver`` or for another ``open``."""
        self.is_answered = False
        """Whether the client has been sent anything."""
        self.is_for_replica = False
        """Whether the client is another replica, which itself gives the answer its shape."""

    @property
    def is_raw(self) -> bool:
        """Whether bytes are relayed, since a 101."""
        return self._stage is _Stage.RAW

    async def open(self, session: ChannelOpener, request: RequestHead, *, deadline: float) -> None:
        """Open the channel and wait for the edge's head; the caller must call ``close``.

        Raises the StreamError that broke it off, OpenTimeout among them. ``is_answered`` tells
        whether the client has got part of an answer by then, which has been aborted. A relay that
        has kept a 404, or has not been answered, may be opened again, towards another edge.
        """
        if self._channel:
            self._begin_again()
        self._channel = session.open(request, self, self._body)
        try:
            async with asyncio.timeout(deadline):
                error = await self._headed
        except TimeoutError:
            raise OpenTimeout(f"the edge did not answer within {deadline:g} s") from None
        if error:
            raise error

    async def finished(self) -> None:
        """Wait for the end of the exchange. Raises the StreamError that broke it off."""
        if error := await self._finished:
            raise error

    @property
    def has_kept(self) -> bool:
        """Whether a 404 has come to its end and was kept."""
        return self._error_head is not None and self._finished.done() and not self.is_answered

    def deliver(self) -> None:
        """Send the 404 that was kept."""
        if self._error_head:
            self.is_answered = True
            head, body = reshaped(self._error_head, bytes(self._error_body), self._subject)
            self._client.send_head(head)
            self._client.send_body(body)
            self._client.send_end()

    def close(self) -> None:
        """Let go of the channel, resetting it where it has not ended. Idempotent."""
        if self._channel:
            self._channel.reset(ChannelReset("the caller went away"))
        self._stage = _Stage.DONE

    # -- from the channel ------------------------------------------------------------------

    def head_received(self, head: ResponseHead) -> None:
        self.status = head.status
        if head.status == 101 and not self._request.is_upgrade:
            self._finish(IncompleteAnswer("the edge switched protocols, which nobody asked for"))
        elif head.status == 101:
            self._stage = _Stage.RAW
            self.is_answered = True
            self._session_end = session_end_of(self._request, head, self._subject)
            self._client.switch_protocols(head)
        elif not self.is_for_replica and needs_reshaping(head, self._subject):
            self._stage = _Stage.ERROR_BODY
            self._error_head = head
        else:
            self._stage = _Stage.BODY
            self.is_answered = True
            self._client.send_head(_of_any_length(head) if self._subject.is_logs else head)
        if not self._headed.done():
            self._headed.set_result(None)

    def data_received(self, data: bytes | memoryview) -> None:
        size = len(data)
        match self._stage:
            case _Stage.RAW:
                end = self._session_end
                self._client.send_raw(end.pass_on(data) if end else data)
            case _Stage.BODY:
                self._client.send_body(data)
            case _Stage.ERROR_BODY:
                self._error_body += data[: MAX_BODY - len(self._error_body)]
            case _:
                return
        self._unconsumed += size
        if self._client.is_writable:
            self.client_writable()

    def end_received(self) -> None:
        match self._stage:
            case _Stage.RAW:
                self._end_raw()
            case _Stage.BODY:
                self._client.send_end()
            case _Stage.ERROR_BODY if not (self.keeps_not_found and self.status == 404):
                self.deliver()
        self._finish(None)

    def reset_received(self, error: StreamError) -> None:
        is_log = self._subject.is_logs and not self.is_for_replica
        if self._stage is _Stage.BODY and is_log:
            # kubectl exits 0, silently, when a log breaks off: the last line must say it.
            self._client.send_body(f"\n{error} [{error.code}]\n".encode())
        if self._stage is _Stage.RAW and self._session_end:
            self._client.send_raw(self._session_end.failure(error))
            self._client.finish()
        elif self._stage in (_Stage.RAW, _Stage.BODY):
            self._client.abort()
        self._finish(error)

    def _end_raw(self) -> None:
        if self._session_end and self._session_end.lacks_status:
            error = IncompleteAnswer(ENDED_WITHOUT_STATUS)
            self._client.send_raw(self._session_end.failure(error))
        self._client.finish()

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        self._client.resume_reading()

    # -- from the client -------------------------------------------------------------------

    def client_data(self, data: bytes) -> None:
        """The client sent bytes of a relayed stream."""
        if self._channel:
            self._channel.write(data)

    def client_writable(self) -> None:
        """The client has taken what it was sent."""
        if self._channel and self._unconsumed:
            size, self._unconsumed = self._unconsumed, 0
            self._channel.consumed(size)

    def _begin_again(self) -> None:
        if self._channel:
            self._channel.reset(ChannelReset("another edge is asked"))
        self._stage = _Stage.OPENING
        self._error_head = None
        self._error_body.clear()
        self._unconsumed = 0
        self.status = 0
        loop = asyncio.get_running_loop()
        self._headed, self._finished = loop.create_future(), loop.create_future()

    def _finish(self, error: StreamError | None) -> None:
        for future in (self._headed, self._finished):
            if not future.done():
                future.set_result(error)


def _of_any_length(head: ResponseHead) -> ResponseHead:
    """The head without a length, which would leave no room for a sentence behind a cut body."""
    headers = without_headers(head.headers, ("content-length",))
    return ResponseHead(head.status, headers, head.reason)
