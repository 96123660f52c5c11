"""Errors as the HTTP answers that a caller of a kubelet understands."""

from edgestream.answers import PLAIN_TEXT, KubeletAnswer
from streamkit.errors import StreamError
from streamkit.wire.exchange import ResponseHead


def error_answer(error: StreamError) -> tuple[ResponseHead, bytes]:
    """The head and the body for an error that came before the answer's first byte.

    A ``KubeletAnswer`` is given as it stands; where it has no headers at all, as in an answer that
    was declared chunked, none is added. Others become their ``http_status``, or 500, and a line.
    """
    if isinstance(error, KubeletAnswer):
        status, headers, body = error.status, error.headers, error.body.encode(errors="replace")
    else:
        body = str(error).encode(errors="replace")
        status, headers = error.http_status or 500, PLAIN_TEXT
    if headers:
        headers = (*headers, ("Content-Length", str(len(body))))
    return ResponseHead(status, headers), body
