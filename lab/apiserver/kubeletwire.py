"""One TLS connection to a kubelet port: requests out, answers in, or raw bytes after a 101."""

import asyncio
from collections.abc import AsyncIterator

import h11

from lab.apiserver import gotext
from lab.apiserver.http1 import HEAD_LIMIT, READ_SIZE
from streamkit.errors import BackendError
from streamkit.wire.exchange import RequestHead, ResponseHead

_FIRST_LINE_SHOWN = 60


class KubeletFailure(BackendError):
    """The kubelet port could not be reached, or broke off; the sentence is Go's for it."""

    def __init__(self, sentence: str, *, dialing: bool = False, unanswered: bool = False) -> None:
        super().__init__(sentence)
        self.dialing = dialing
        """Whether there was no connection yet to send the request on."""
        self.unanswered = unanswered
        """Whether the connection ended before the first byte of an answer."""


class KubeletConnection:
    """A connection that carries one exchange at a time; any failure leaves it unfit for more.

    ``local`` and ``remote`` are the two addresses as failures tell them.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        local: str,
        remote: str,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._local, self._remote = local, remote
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self._head_bytes: bytearray | None = None
        self._failed = False

    @property
    def reusable(self) -> bool:
        """Whether the last answer has been read to its end and the peer still listens."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        return done and not (self._failed or self.reader.at_eof() or self.writer.is_closing())

    async def ask(self, head: RequestHead, body: bytes = b"") -> ResponseHead:
        """Send a request and wait for the head of the answer, for as long as it takes.

        Whoever asks bounds that by the presence of the client. Raises KubeletFailure.
        """
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in head.headers
        ]
        request = h11.Request(method=head.method, target=head.target, headers=headers)
        pieces = [self._http.send(request)]
        if body:
            pieces.append(self._http.send(h11.Data(data=body)))
        pieces.append(self._http.send(h11.EndOfMessage()))
        self._head_bytes = bytearray()
        try:
            self.writer.write(b"".join(filter(None, pieces)))
            await self.writer.drain()
        except OSError as error:
            raise self._broken(error, verb="write") from error
        while True:
            answer = await self._next_event()
            if isinstance(answer, h11.Response) or (
                isinstance(answer, h11.InformationalResponse) and answer.status_code == 101
            ):
                return _response_head(answer)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises KubeletFailure if it breaks off before its end."""
        while isinstance(event := await self._next_event(), h11.Data):
            yield bytes(event.data)

    def raw_answer(self) -> bytes:
        """After a 101: its head as it came, and whatever came right behind it."""
        return bytes(self._head_bytes or b"")

    def close(self) -> None:
        """Send what is left, say goodbye, close. May be repeated."""
        self.writer.close()

    async def _next_event(self) -> h11.Event | None:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._failed = True
                raise KubeletFailure(self._protocol_words()) from error
            if event is h11.PAUSED:
                return None
            if isinstance(event, h11.Event):
                if isinstance(event, h11.Response):
                    self._head_bytes = None
                return event
            await self._receive()

    async def _receive(self) -> None:
        try:
            data = await self.reader.read(READ_SIZE)
        except OSError as error:
            raise self._broken(error) from error
        if self._head_bytes is not None:
            if not data:
                self._failed = True
                unanswered = not self._head_bytes
                words = "EOF" if unanswered else "unexpected EOF"
                raise KubeletFailure(words, unanswered=unanswered)
            self._head_bytes += data
        self._http.receive_data(data)

    def _broken(self, error: OSError, *, verb: str = "read") -> KubeletFailure:
        self._failed = True
        words = gotext.stream_fault(error, self._local, self._remote, verb=verb)
        return KubeletFailure(words, unanswered=self._head_bytes == bytearray())

    def _protocol_words(self) -> str:
        if self._head_bytes is None:
            return "unexpected EOF"
        line = bytes(self._head_bytes).split(b"\r\n")[0][:_FIRST_LINE_SHOWN]
        return f"malformed HTTP response {gotext.quote(line.decode('latin-1'))}"


def _response_head(answer: h11.Response | h11.InformationalResponse) -> ResponseHead:
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in answer.headers.raw_items()
    )
    return ResponseHead(answer.status_code, headers, answer.reason.decode("latin-1"))
