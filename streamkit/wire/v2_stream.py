"""One direction of a v2 channel, as its sender and as its receiver keep it.

A direction is a row of units, numbered from 0: its opening (OPEN or HEAD), then every data byte,
then its END. A *position* is the number of units before it. The sender keeps what the receiver has
not consumed, so that all of it can be sent again on a new tunnel, from any position on.
"""

from collections import deque

from streamkit.errors import LocalProtocolError, RemoteProtocolError
from streamkit.wire.message import Pieces

OPENING_UNITS = 1

_SHORT, _LONG = 2, 4
"""A window that is consumed in fewer trips than the first holds the sender up; one that takes more
than the second is a queue."""

_SMALL = 4 * 1024
"""Pieces up to this size are joined: an object costs more than the few bytes it may hold."""


class SendStream:
    """What is queued, what is sent, what is acknowledged. Positions: acked <= sent <= total.

    ``window`` is what the peer grants before it has said anything about this direction. Whatever it
    grants later, no more than ``most_held`` bytes are sent beyond what it has consumed.
    """

    __slots__ = (
        "_limit",
        "_most_held",
        "_sent_pieces",
        "_unsent",
        "acked",
        "end_reason",
        "is_ended",
        "opening",
        "sent",
        "total",
    )

    def __init__(self, *, window: int, most_held: int) -> None:
        self.opening: bytes | None = None
        self.acked = self.sent = self.total = 0
        self.is_ended = False
        self.end_reason = b""
        self._limit = OPENING_UNITS + window
        self._most_held = most_held
        self._unsent: deque[bytes | memoryview] = deque()
        self._sent_pieces: deque[bytes | memoryview | bytearray] = deque()

    @property
    def limit(self) -> int:
        """The position up to which data may be sent now."""
        held = (self.acked or OPENING_UNITS) + self._most_held
        return held if held < self._limit else self._limit

    @property
    def backlog(self) -> int:
        """Units queued and not yet sent."""
        return self.total - self.sent

    @property
    def is_settled(self) -> bool:
        """Whether the peer has consumed everything, the end included."""
        return self.is_ended and self.acked == self.total

    @property
    def has_turn(self) -> bool:
        """Whether something may be sent now. Only data waits for the window."""
        if self.opening is None or self.sent == self.total:
            return False
        return not self._unsent or self.sent < self.limit or self.sent == 0

    @property
    def has_data(self) -> bool:
        """Whether data bytes wait to be sent, window or not."""
        return bool(self._unsent)

    def open(self, message: bytes) -> None:
        """Queue the opening message. Raises LocalProtocolError for a second one."""
        if self.opening is not None:
            raise LocalProtocolError("a channel's direction has one opening")
        self.opening = message
        self.total += OPENING_UNITS

    def append(self, data: bytes | memoryview) -> None:
        """Queue data bytes, which must not change afterwards; void behind the end.

        Raises LocalProtocolError before the opening.
        """
        self._must_be_open()
        size = len(data)
        if size and not self.is_ended:
            if size > _SMALL:
                self._unsent.append(memoryview(data))
            elif self._unsent and len(self._unsent[-1]) + size <= _SMALL:
                self._unsent.append(b"".join((self._unsent.pop(), data)))
            else:
                self._unsent.append(data)
            self.total += size

    def end(self, reason: bytes = b"") -> None:
        """Queue the end; a reason tells that what came before it is not all. Idempotent.

        Raises LocalProtocolError before the opening.
        """
        self._must_be_open()
        if not self.is_ended:
            self.is_ended = True
            self.end_reason = reason
            self.total += 1

    def take(self, most: int) -> Pieces:
        """Move up to ``most`` data bytes, within the window, from unsent to sent."""
        room = self.limit - self.sent
        most = room if room < most else most
        unsent, first = self._unsent, self._unsent[0]
        if len(first) <= most and len(unsent) == 1:
            unsent.clear()
            self.sent += len(first)
            self._keep(first)
            return (first,)
        pieces = []
        while unsent and most > 0:
            piece = unsent.popleft()
            if len(piece) > most:
                unsent.appendleft(piece[most:])
                piece = piece[:most]
            most -= len(piece)
            self.sent += len(piece)
            self._keep(piece)
            pieces.append(piece)
        return tuple(pieces)

    def _keep(self, piece: bytes | memoryview) -> None:
        """Keep what has been sent; small pieces share one buffer."""
        kept = self._sent_pieces
        if len(piece) > _SMALL:
            kept.append(piece)
        elif kept and type(last := kept[-1]) is bytearray and len(last) < _SMALL:
            last += piece
        else:
            kept.append(bytearray(piece))

    def grant(self, window: int) -> None:
        """On a new tunnel the peer tells how many data bytes it takes unasked."""
        self._limit = max(self._limit, OPENING_UNITS + window)

    def begin_anew(self, window: int) -> None:
        """Another peer takes this direction, of which nothing has been sent."""
        self._limit = OPENING_UNITS + window

    def acknowledge(self, consumed: int, limit: int) -> None:
        """The peer has consumed up to a position, and takes data up to a limit.

        Raises RemoteProtocolError where it claims units that were never sent.
        """
        if consumed > self.sent:
            raise RemoteProtocolError("the peer acknowledges what was never sent")
        self._limit = max(self._limit, limit)
        if consumed > self.acked:
            self._drop_data(self._data_before(consumed) - self._data_before(self.acked))
            self.acked = consumed

    def rewind(self, received: int) -> None:
        """Send again from what the peer has received.

        Raises RemoteProtocolError for a position that can't be served.
        """
        if not self.acked <= received <= self.sent:
            raise RemoteProtocolError("the peer resumes at a position that is not held")
        back = self._data_before(self.sent) - self._data_before(received)
        while back > 0:
            piece = self._sent_pieces.pop()
            if len(piece) > back:
                self._sent_pieces.append(piece[:-back])
                piece = piece[-back:]
            self._unsent.appendleft(memoryview(piece))
            back -= len(piece)
        self.sent = received

    def clear(self) -> None:
        """Forget all data."""
        self._unsent.clear()
        self._sent_pieces.clear()

    def _must_be_open(self) -> None:
        if self.opening is None:
            raise LocalProtocolError("nothing goes before a channel's opening")

    def _data_before(self, position: int) -> int:
        beyond_end = self.is_ended and position == self.total
        return max(0, position - OPENING_UNITS - int(beyond_end))

    def _drop_data(self, size: int) -> None:
        while size > 0:
            piece = self._sent_pieces.popleft()
            if len(piece) > size:
                self._sent_pieces.appendleft(piece[size:])
                return
            size -= len(piece)


class ReceiveStream:
    """What has come, what the application has consumed, and how far the peer may send."""

    __slots__ = (
        "_announced",
        "_consumed_data",
        "_least",
        "_mark",
        "is_abandoned",
        "is_ended",
        "received",
        "window",
    )

    def __init__(self, window: int) -> None:
        self.received = 0
        self.is_ended = False
        self.is_abandoned = False
        self.window = self._least = window
        self._consumed_data = 0
        self._mark = (0, 0.0)
        self._announced = OPENING_UNITS + window

    @property
    def consumed(self) -> int:
        """The position up to which the application has taken everything."""
        return OPENING_UNITS + self._consumed_data if self.unconsumed else self.received

    @property
    def unconsumed(self) -> int:
        """Data bytes that have come and that the application has not consumed."""
        data = self.received - OPENING_UNITS - (1 if self.is_ended else 0)
        return data - self._consumed_data if data > 0 else 0

    @property
    def is_settled(self) -> bool:
        """Whether everything has come and has been consumed."""
        return self.is_ended and not self.unconsumed

    @property
    def limit(self) -> int:
        """The position up to which data is welcome: at least that which has been announced."""
        limit = OPENING_UNITS + self._consumed_data + self.window
        return limit if limit > self._announced else self._announced

    def receive_opening(self) -> None:
        """Raises RemoteProtocolError for a second one."""
        if self.received:
            raise RemoteProtocolError("a channel was opened twice")
        self.received = OPENING_UNITS

    def receive_data(self, size: int) -> None:
        """Raises RemoteProtocolError for data before the opening, behind the end, or unasked."""
        if not self.received or self.is_ended:
            raise RemoteProtocolError("data came before a channel's opening or behind its end")
        if self.received + size > self.limit:
            raise RemoteProtocolError("data came beyond the window")
        self.received += size

    def receive_end(self) -> None:
        """Raises RemoteProtocolError for an end before the opening, and for a second one."""
        if not self.received or self.is_ended:
            raise RemoteProtocolError("an end came before a channel's opening or twice")
        self.is_ended = True
        self.received += 1

    def consume(self, size: int) -> bool:
        """The application took that many bytes; whether the peer should hear of it now.

        Raises LocalProtocolError for more bytes than came.
        """
        unconsumed = self.unconsumed - size
        if unconsumed < 0:
            raise LocalProtocolError("more was consumed than had come")
        self._consumed_data += size
        if self.is_ended and not unconsumed:
            return True
        return self.limit - self._announced >= self.window // 4

    def fit(self, now: float, trip: float, max_window: int) -> None:
        """Make the window span a trip; to be asked before ``announce``. Both times in seconds.

        It doubles when a whole one has been consumed in less than two trips, and is halved, down to
        what it began with, when one took more than four. It stays as it is while no trip is known
        (0).
        """
        position, since = self._mark
        if self._consumed_data - position < self.window:
            return
        self._mark = (self._consumed_data, now)
        seconds = now - since
        if seconds < _SHORT * trip:
            self.window = max(self.window, min(2 * self.window, max_window))
        elif trip and seconds > _LONG * trip:
            self.window = max(self.window // 2, self._least)

    def announce(self) -> tuple[int, int]:
        """Consumed position and limit, to be sent now."""
        self._announced = self.limit
        return self.consumed, self._announced
