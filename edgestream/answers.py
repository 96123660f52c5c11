"""Error answers that are the kubelet's own, to the byte."""

from streamkit.errors import StreamError
from streamkit.wire.exchange import Headers

PLAIN_TEXT: Headers = (("Content-Type", "text/plain; charset=utf-8"),)
"""What most of a kubelet's error answers have."""

UNSNIFFED_TEXT: Headers = (*PLAIN_TEXT, ("X-Content-Type-Options", "nosniff"))
"""What its remaining ones have, those that Go's ``http.Error`` writes; their bodies end a line."""


class KubeletAnswer(StreamError):
    """An error whose status, headers and body are exactly what a kubelet sends.

    ``body`` is sent as it stands. ``headers`` replaces the usual
    ``Content-Type: text/plain; charset=utf-8``; an empty tuple means no Content-Type at all, as the
    kubelet has it for the log errors it finds after the response became chunked.
    """

    code = "KS5100"

    def __init__(
        self,
        status: int,
        body: str,
        *,
        headers: Headers = PLAIN_TEXT,
    ) -> None:
        super().__init__(body.rstrip("\n"))
        self.status = status
        self.body = body
        self.headers = headers
