"""What a SPDY client of an exec or attach gets to know."""

import json
from typing import Any

from tests.integration.replay.recordings import load
from tests.support.spdy import DATA, RST_STREAM, SYN_STREAM, parse

STATUS_STREAM, STDOUT, STDERR = 1, 3, 5
"""As in a session without stdin."""

OPENED = next(
    b"".join(frame.raw for frame in each.frames if frame.kind == SYN_STREAM)
    for each in load("exec")
    if each.command == "kubectl exec single -- echo hi" and each.frames
)
"""What kubectl sends first, and all that it sends."""


class Heard:
    """A whole session; ``statuses`` are those that its client reads."""

    def __init__(self, stream: bytes) -> None:
        self.output = b""
        self.statuses: list[dict[str, Any]] = []
        is_reset = False
        while stream:
            frame, stream = parse(stream)
            assert frame, "the last frame is not whole"
            if frame.kind == RST_STREAM and frame.stream == STATUS_STREAM:
                is_reset = True
            if frame.kind == DATA and frame.stream == STDOUT:
                self.output += frame.payload
            if frame.kind == DATA and frame.stream == STATUS_STREAM and frame.payload:
                assert not is_reset, "nobody reads that status any more"
                self.statuses.append(json.loads(frame.payload))

    def check_failure(self) -> None:
        """It has one status, and that tells the user that the session was lost."""
        (status,) = self.statuses
        told = (status["status"], status["reason"], status["code"])
        assert told == ("Failure", "InternalError", 500)
        assert "the session was lost" in status["message"]
