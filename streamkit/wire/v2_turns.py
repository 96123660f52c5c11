"""The order in which a v2 session sends: control first, then data, each channel in its turn."""

from collections import deque

from streamkit.wire.message import Pieces
from streamkit.wire.v2_message import MAX_BATCH, MAX_BATCHED, V2Type, encode_batch, message
from streamkit.wire.v2_stream import OPENING_UNITS, ReceiveStream, SendStream


class Directions:
    """Both directions of one channel."""

    __slots__ = ("channel_id", "data_header", "has_place", "receiving", "sending")

    def __init__(self, channel_id: int, sending: SendStream, receiving: ReceiveStream) -> None:
        self.channel_id = channel_id
        self.data_header = message(channel_id, V2Type.DATA)
        self.sending = sending
        self.receiving = receiving
        self.has_place = False
        """Whether it stands in the row of those that have something to send."""

    @property
    def is_done(self) -> bool:
        """Whether neither side can need the channel any more."""
        return self.receiving.is_settled and self.sending.is_settled

    @property
    def is_ended(self) -> bool:
        """Whether both directions have their end, acknowledged or not."""
        return self.receiving.is_ended and self.sending.is_ended

    @property
    def is_small(self) -> bool:
        """Whether its next message may leave in a batch."""
        sending = self.sending
        if not sending.sent and sending.opening:
            return len(sending.opening) <= MAX_BATCHED
        return sending.backlog < MAX_BATCHED

    def next_message(self, most: int) -> Pieces:
        """The next message of a channel that has its turn, with up to ``most`` data bytes."""
        sending = self.sending
        if sending.has_data and sending.sent:
            pieces = sending.take(most)
            if len(pieces) == 1 and len(pieces[0]) < MAX_BATCHED:
                return (b"".join((self.data_header, pieces[0])),)
            return (self.data_header, *pieces)
        if sending.sent == 0 and sending.opening is not None:
            sending.sent = OPENING_UNITS
            return (sending.opening,)
        sending.sent = sending.total
        return (message(self.channel_id, V2Type.END, sending.end_reason),)


class Turns:
    """What waits to be sent on the tunnel that is attached."""

    __slots__ = ("_control", "_row", "message_size")

    def __init__(self, message_size: int) -> None:
        self.message_size = message_size
        """How many data bytes one message carries at the most."""
        self._control: deque[bytes] = deque()
        self._row: deque[Directions] = deque()

    def __bool__(self) -> bool:
        """Whether there may be something to send."""
        return bool(self._control or self._row)

    def send(self, control: bytes) -> None:
        """Queue a message that goes before all data."""
        self._control.append(control)

    def release(self, channel: Directions) -> None:
        """The channel takes its place in the row, if it has something to send and none yet."""
        if not channel.has_place and channel.sending.has_turn:
            channel.has_place = True
            self._row.append(channel)

    def withdraw(self, channel: Directions) -> None:
        """The channel is gone; its place is passed over."""
        channel.has_place = False

    def clear_control(self) -> None:
        """The tunnel is gone, and what was to be said on it."""
        self._control.clear()

    def clear_row(self) -> None:
        """Nobody has a place any more."""
        for channel in self._row:
            channel.has_place = False
        self._row.clear()

    def next_message(self) -> Pieces | None:
        """The next message, or None; small ones that follow each other leave as one batch."""
        if not self:
            return None
        first = self._next()
        if first is None or len(first) > 1 or len(first[0]) > MAX_BATCHED or not self:
            return first
        batch, size = [first[0]], len(first[0])
        while size < MAX_BATCH and self._is_next_small() and (more := self._next()) is not None:
            # In several pieces where it has been written in several, or was not next in the row.
            batch.append(more[0] if len(more) == 1 else b"".join(more))
            size += len(batch[-1])
        return first if len(batch) == 1 else (encode_batch(batch),)

    def _next(self) -> Pieces | None:
        if self._control:
            return (self._control.popleft(),)
        row = self._row
        while row:
            channel = row.popleft()
            if channel.has_place:
                channel.has_place = False
                if channel.sending.has_turn:
                    found = channel.next_message(self.message_size)
                    self.release(channel)
                    return found
        return None

    def _is_next_small(self) -> bool:
        if self._control:
            return len(self._control[0]) <= MAX_BATCHED
        return not self._row or self._row[0].is_small
