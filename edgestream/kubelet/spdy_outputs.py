"""Which of a command's output streams have ended, as the server's SPDY frames tell.

A runtime that can't get rid of a command's input waits for ever before it tells how the command
ended (containerd 1.6: the rest of stdin is stuck in a FIFO that nobody reads any more). Where all
output has ended and the input stands still, no status is to be expected.
"""

_HEADER_SIZE = 8
_CONTROL = 0x80
_FIN = 0x01


class OutputEnds:
    """Follows what the server sends; ``expected`` is how many output streams there are.

    With none, nothing is followed, and the output never counts as ended.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._is_spdy: bool | None = None if expected else False
        self._ended: set[bytes] = set()
        self._header = b""
        self._remaining = 0

    @property
    def are_complete(self) -> bool:
        """Whether all output streams have ended."""
        return bool(self._expected) and len(self._ended) >= self._expected

    def feed(self, data: bytes) -> None:
        """See what the server sent next."""
        if self._is_spdy is None:
            self._is_spdy = data[:1] >= b"\x80"  # a server begins with a control frame
        position = 0
        while self._is_spdy and position < len(data):
            if self._remaining:
                step = min(self._remaining, len(data) - position)
                self._remaining -= step
            else:
                step = min(_HEADER_SIZE - len(self._header), len(data) - position)
                self._header += data[position : position + step]
                if len(self._header) == _HEADER_SIZE:
                    self._see(self._header)
                    self._header = b""
            position += step

    def _see(self, header: bytes) -> None:
        self._remaining = int.from_bytes(header[5:])
        if not header[0] & _CONTROL and header[4] & _FIN:
            self._ended.add(header[:4])
