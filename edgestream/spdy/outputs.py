"""Which of a command's output streams have ended, as the server's SPDY frames tell.

A runtime that can't get rid of a command's input waits for ever before it tells how the command
ended (containerd 1.6: the rest of stdin is stuck in a FIFO that nobody reads any more). Where all
output has ended and the input stands still, no status is to be expected.
"""

from edgestream.spdy.frames import CONTROL_BIT, Data, FrameReader
from streamkit.errors import BadRequest


class OutputEnds:
    """Follows what the server sends; ``expected`` is how many output streams there are.

    With none, nothing is followed, and the output never counts as ended.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._is_spdy: bool | None = None if expected else False
        self._ended: set[int] = set()
        self._frames = FrameReader()

    @property
    def are_complete(self) -> bool:
        """Whether all output streams have ended."""
        return bool(self._expected) and len(self._ended) >= self._expected

    def feed(self, data: bytes) -> None:
        """See what the server sent next."""
        if self._is_spdy is None:
            self._is_spdy = data[0] >= CONTROL_BIT  # a server begins with a control frame
        if not self._is_spdy:
            return
        try:
            frames = self._frames.feed(data)
        except BadRequest:
            self._is_spdy = False
            return
        ended = (each.stream_id for each in frames if isinstance(each, Data) and each.is_last)
        self._ended.update(ended)
