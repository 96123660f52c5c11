"""The JSON of v1's connect messages: a request as Go prints its URL struct and header map.

(KubeEdge ``pkg/stream``: ``EdgedLogsConnection``, ``EdgedExecConnection``,
``EdgedMetricsConnection``, ``EdgedAttachConnection``.)
"""

import json
from typing import Any

from streamkit.errors import BadConnectRequest
from streamkit.wire.exchange import Headers, RequestHead
from streamkit.wire.go_url import GoUrl, parse_target
from streamkit.wire.message import MessageType

KUBELET_HOST = "127.0.0.1:10350"
"""What every stock connect message names as the host: constants of KubeEdge, no configuration."""

_GO_ESCAPES = str.maketrans(
    {"&": r"\u0026", "<": r"\u003c", ">": r"\u003e", "\u2028": r"\u2028", "\u2029": r"\u2029"}
)


def encode_connect_request(
    channel_id: int, message_type: MessageType, request: RequestHead
) -> bytes:
    """The data of a connect message, byte for byte as Go's encoder prints it.

    Header names are Go-canonical and sorted, as in a Go header map. Raises BadConnectRequest for a
    target that is no valid URL.
    """
    try:
        url = parse_target(request.target)
    except ValueError as error:
        raise BadConnectRequest(f"the request target can't be carried: {error}") from error
    fields: dict[str, Any] = {
        "MessID": channel_id,
        "url": {
            "Scheme": "http",
            "Opaque": "",
            "User": None,
            "Host": KUBELET_HOST,
            "Path": _as_go_string(url.path),
            "Fragment": "",
            "RawQuery": _as_go_string(url.raw_query),
            "RawPath": _as_go_string(url.raw_path),
            "RawFragment": "",
            "ForceQuery": url.force_query,
            "OmitHost": False,
        },
        "header": _header_map(request.headers),
    }
    if message_type in (MessageType.EXEC_CONNECT, MessageType.ATTACH_CONNECT):
        fields["method"] = request.method
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_GO_ESCAPES).encode()


def decode_connect_request(data: bytes | memoryview, message_type: int) -> tuple[int, RequestHead]:
    """The channel id that the JSON names, and the request.

    Names are matched without case; unknown and missing fields are fine, as Go's decoder has it. The
    URL's scheme and host are not looked at: a request never says whom to dial. Raises
    BadConnectRequest for anything that is no such JSON.
    """
    try:
        fields = _lower(json.loads(bytes(data)))
        url = _lower(fields.get("url") or {})
        request = RequestHead(
            _text(fields, "method") or "GET",
            _target(url),
            _header_lines(fields.get("header") or {}),
        )
        channel_id = fields.get("messid", 0)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadConnectRequest("a connect message holds no usable JSON request") from error
    if not isinstance(channel_id, int):
        raise BadConnectRequest("a connect message names no channel id")
    if message_type in (MessageType.LOGS_CONNECT, MessageType.METRIC_CONNECT):
        request = RequestHead("GET", request.target, request.headers)
    return channel_id, request


def _as_go_string(text: str) -> str:
    """Bytes that are no UTF-8 become U+FFFD, as in Go's encoder."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _header_map(headers: Headers) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, value in headers:
        names.setdefault(canonical_header_name(name), []).append(_as_go_string(value))
    return dict(sorted(names.items()))


def canonical_header_name(name: str) -> str:
    """Go's spelling of a header name: each word's first letter upper case, the rest lower."""
    return "-".join(word[:1].upper() + word[1:].lower() for word in name.split("-"))


def _lower(fields: Any) -> dict[str, Any]:
    return {key.lower(): value for key, value in fields.items()}


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _target(url: dict[str, Any]) -> str:
    parts = GoUrl(
        _text(url, "path"),
        _text(url, "rawpath"),
        _text(url, "rawquery"),
        bool(url.get("forcequery")),
    )
    if not parts.target.startswith("/") or any(c in parts.target for c in "\r\n \t"):
        raise ValueError("target")
    return parts.target


def _header_lines(headers: dict[str, Any]) -> Headers:
    lines = []
    for name, values in headers.items():
        for value in values or ():
            if not isinstance(value, str) or any(c in name + value for c in "\r\n\0"):
                raise ValueError("header")
            lines.append((name, value))
    return tuple(lines)
