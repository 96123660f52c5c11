"""Answers that are made as a whole, such as JSON documents."""

import json
from datetime import UTC, datetime

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead, header_values

JSON: Headers = (("Content-Type", "application/json"),)

_PIECE = 32 * 1024

# Go writes these so that JSON may stand in HTML and in JavaScript.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


async def reply(exchange: Exchange, body: bytes, headers: Headers) -> None:
    """Answer with status 200, at the pace of the reader. A HEAD request gets no body."""
    length = ("Content-Length", str(len(body)))
    await exchange.send_head(ResponseHead(200, (*headers, length)))
    if exchange.request.method != "HEAD":
        for start in range(0, len(body), _PIECE):
            await exchange.write(body[start : start + _PIECE])
    await exchange.end()


def require_json_wanted(request: RequestHead) -> None:
    """Raise the KubeletAnswer for a caller whose Accept header leaves out JSON.

    A range such as ``application/*`` leaves it out as well.
    """
    accepted = [
        media.partition(";")[0].strip()
        for value in header_values(request.headers, "accept")
        for media in value.split(",")
    ]
    if accepted and not {"*/*", "application/json"} & set(accepted):
        body = "406: Not Acceptable\n\nAvailable representations: application/json"
        raise KubeletAnswer(406, body)


def to_json(document: object, *, indent: int | None = None) -> bytes:
    """The document as Go writes it, indented or compact."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(document, ensure_ascii=False, indent=indent, separators=separators)
    return text.translate(_ESCAPES).encode(errors="replace")


def to_time(nanoseconds: int | None) -> str | None:
    """The moment as Kubernetes writes it: UTC, whole seconds."""
    if nanoseconds is None:
        return None
    moment = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
