"""What a session or a mux has to send, each message in one piece."""

from collections.abc import Iterator
from typing import Protocol

from streamkit.wire.message import Pieces


class Sender(Protocol):
    """What hands its messages out in pieces."""

    def next_message(self) -> Pieces | None:
        """The next message, or None."""


def messages_of(sender: Sender) -> Iterator[bytes]:
    """All that it has to send now."""
    for pieces in iter(sender.next_message, None):
        yield b"".join(pieces)
