"""What waits to be sent, and in which order it leaves.

Control messages go first, in order. Data leaves round-robin over the channels, a slice at a time,
so that a keystroke waits for one slice of each busy channel at the most.
"""

from collections import deque

SLICE = 32 * 1024
"""Data bytes per message. Small enough for a keystroke to overtake, large enough to be cheap."""


class DataQueue:
    """One channel's outgoing bytes. ``is_ended``: an end follows the last of them."""

    __slots__ = ("_pieces", "channel_id", "is_ended", "is_held", "size")

    def __init__(self, channel_id: int) -> None:
        self.channel_id = channel_id
        self.size = 0
        self.is_ended = False
        self.is_held = False
        self._pieces: deque[memoryview] = deque()

    def append(self, data: bytes | memoryview) -> None:
        """Queue bytes. They must not change afterwards."""
        if len(data):
            self._pieces.append(memoryview(data))
            self.size += len(data)

    def take(self, limit: int) -> bytes | memoryview:
        """Up to ``limit`` bytes from the front; small pieces are joined."""
        first = self._pieces.popleft()
        if len(first) > limit:
            self._pieces.appendleft(first[limit:])
            first = first[:limit]
        taken = len(first)
        parts = [first]
        while self._pieces and taken + len(self._pieces[0]) <= limit:
            piece = self._pieces.popleft()
            parts.append(piece)
            taken += len(piece)
        self.size -= taken
        return first if len(parts) == 1 else b"".join(parts)


class Outbox:
    """The order of leaving."""

    def __init__(self) -> None:
        self._control: deque[bytes] = deque()
        self._queues: dict[int, DataQueue] = {}
        self._ready: deque[int] = deque()
        self._waiting: set[int] = set()

    def __contains__(self, channel_id: int) -> bool:
        return channel_id in self._queues

    def control(self, message: bytes) -> None:
        """Queue a whole message that goes before all data."""
        self._control.append(message)

    def add(self, channel_id: int, *, held: bool = False) -> None:
        """Make room for a channel; a held one sends nothing until ``release``."""
        queue = self._queues[channel_id] = DataQueue(channel_id)
        queue.is_held = held

    def remove(self, channel_id: int) -> None:
        """Forget a channel and all that it had queued."""
        self._queues.pop(channel_id, None)
        self._waiting.discard(channel_id)

    def data(self, channel_id: int, data: bytes | memoryview) -> None:
        """Queue bytes of a channel."""
        queue = self._queues[channel_id]
        queue.append(data)
        self._line_up(queue)

    def end(self, channel_id: int) -> None:
        """Let an end follow the channel's last byte."""
        queue = self._queues[channel_id]
        queue.is_ended = True
        self._line_up(queue)

    def is_ended(self, channel_id: int) -> bool:
        """Whether the channel will send nothing beyond what it has queued."""
        queue = self._queues.get(channel_id)
        return queue is not None and queue.is_ended

    def release(self, channel_id: int) -> None:
        """Let a held channel take its turns from now on."""
        if queue := self._queues.get(channel_id):
            queue.is_held = False
            self._line_up(queue)

    def backlog(self, channel_id: int) -> int:
        """The bytes that the channel has queued."""
        queue = self._queues.get(channel_id)
        return queue.size if queue else 0

    def next_control(self) -> bytes | None:
        """The next control message, if there is one."""
        return self._control.popleft() if self._control else None

    def next_data(self) -> tuple[int, bytes | memoryview, bool] | None:
        """The next slice: channel id, bytes, and whether the channel's end comes with it."""
        while self._ready:
            channel_id = self._ready.popleft()
            if channel_id not in self._waiting:
                continue
            self._waiting.discard(channel_id)
            queue = self._queues[channel_id]
            piece = queue.take(SLICE) if queue.size else b""
            if queue.size:
                self._line_up(queue)
            return channel_id, piece, queue.is_ended and not queue.size
        return None

    def _line_up(self, queue: DataQueue) -> None:
        channel_id = queue.channel_id
        if queue.is_held or channel_id in self._waiting or not (queue.size or queue.is_ended):
            return
        self._waiting.add(channel_id)
        self._ready.append(channel_id)
