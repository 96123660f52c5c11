"""What a caller has sent for the connections that it multiplexes, and nobody has taken yet."""

import asyncio
from collections import deque


class Room:
    """How many bytes may wait for all connections of one caller together.

    A protocol that knows no windows can only stop to read as a whole; ``available`` says when.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._available = asyncio.Event()
        self._available.set()

    async def available(self) -> None:
        """Wait until less than all is taken."""
        await self._available.wait()

    def take(self, size: int) -> None:
        """Take so many bytes, be there enough or not."""
        self._free -= size
        if self._free <= 0:
            self._available.clear()

    def give_back(self, size: int) -> None:
        """Return so many."""
        self._free += size
        if self._free > 0:
            self._available.set()


class Inbox:
    """The bytes for one connection, to their end."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._pieces: deque[bytes] = deque()
        self._in_hand = 0
        self._has_ended = self._is_closed = False
        self._changed = asyncio.Event()
        self.received = 0
        """Bytes that have come in all."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._pieces

    def put(self, data: bytes) -> None:
        """Keep what came next."""
        self.received += len(data)
        if not self._is_closed:
            self._room.take(len(data))
            self._pieces.append(data)
            self._changed.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._has_ended = True
        self._changed.set()

    async def get(self) -> bytes:
        """The next bytes; empty at the end. What was got before has been passed on by then."""
        self._put_down()
        while not self._pieces:
            if self._has_ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._pieces.popleft()
        self._in_hand = len(data)
        return data

    def close(self) -> None:
        """Throw away what waits, and what comes from now on. Idempotent."""
        self._is_closed = True
        self._put_down()
        self._room.give_back(sum(map(len, self._pieces)))
        self._pieces.clear()

    def _put_down(self) -> None:
        self._room.give_back(self._in_hand)
        self._in_hand = 0
