"""The JSON of v1's connect messages: a request as Go prints its URL struct and header map.

(KubeEdge ``pkg/stream``: ``EdgedLogsConnection``, ``EdgedExecConnection``,
``EdgedMetricsConnection``, ``EdgedAttachConnection``.)
"""

import json
import re
from typing import Any

from streamkit.errors import BadConnectRequest
from streamkit.wire.exchange import Headers, RequestHead, without_headers
from streamkit.wire.go_url import GoUrl, parse_target
from streamkit.wire.message import MessageType

KUBELET_HOST = "127.0.0.1:10350"
"""What every stock connect message names as the host: constants of KubeEdge, no configuration."""

_NOT_CARRIED = ("host", "transfer-encoding")
"""Go's HTTP server takes these out of the header map."""

_GO_ESCAPES = str.maketrans(
    {"&": r"\u0026", "<": r"\u003c", ">": r"\u003e", "\u2028": r"\u2028", "\u2029": r"\u2029"}
    | {chr(0xDC00 + byte): r"\ufffd" for byte in range(0x80, 0x100)}
)
"""What Go's encoder escapes, for HTML's sake; and a byte that is no UTF-8, here held as a surrogate
escape, is written as the escape of U+FFFD."""

_TARGET = re.compile(r"/[\x21-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LINE_END = re.compile(r"[\r\n\0]")


def encode_connect_request(
    channel_id: int, message_type: MessageType, request: RequestHead
) -> bytes:
    """The data of a connect message, byte for byte as Go's encoder prints it.

    Header names are Go-canonical and sorted, as in a Go header map; Host and Transfer-Encoding are
    left out. Raises BadConnectRequest for a target that can't be carried.
    """
    try:
        url = parse_target(request.target)
    except ValueError as error:
        raise BadConnectRequest(f"the request's target can't be carried: {error}") from error
    fields: dict[str, Any] = {
        "MessID": channel_id,
        "url": {
            "Scheme": "http",
            "Opaque": "",
            "User": None,
            "Host": KUBELET_HOST,
            "Path": url.path,
            "Fragment": "",
            "RawQuery": url.raw_query,
            "RawPath": url.raw_path,
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
        request = RequestHead(
            _method(fields),
            _target(_lower(fields.get("url") or {})),
            _header_lines(fields.get("header") or {}),
        )
        channel_id = fields.get("messid", 0)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadConnectRequest("a connect message holds no usable JSON request") from error
    if type(channel_id) is not int:
        raise BadConnectRequest("a connect message names no channel id")
    if message_type in (MessageType.LOGS_CONNECT, MessageType.METRIC_CONNECT):
        request = RequestHead("GET", request.target, request.headers)
    return channel_id, request


def _header_map(headers: Headers) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, value in without_headers(headers, _NOT_CARRIED):
        text = value.encode("latin-1").decode(errors="surrogateescape")
        names.setdefault(canonical_header_name(name), []).append(text)
    return dict(sorted(names.items()))


def canonical_header_name(name: str) -> str:
    """Go's spelling of a header name: each word's first letter upper case, the rest lower."""
    return "-".join(word[:1].upper() + word[1:].lower() for word in name.split("-"))


def _lower(fields: Any) -> dict[str, Any]:
    return {key.lower(): value for key, value in fields.items()}


def _text(fields: dict[str, Any], name: str) -> str:
    return _checked(fields.get(name) or "")


def _checked(value: object) -> str:
    """A JSON string. As in Go, half a surrogate pair turns into U+FFFD."""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le", errors="replace")


def _method(fields: dict[str, Any]) -> str:
    method = _text(fields, "method") or "GET"
    if not _TOKEN.fullmatch(method):
        raise ValueError("method")
    return method


def _target(url: dict[str, Any]) -> str:
    target = GoUrl(
        _text(url, "path"),
        _text(url, "rawpath"),
        _text(url, "rawquery"),
        bool(url.get("forcequery")),
    ).target
    if not _TARGET.fullmatch(target):
        raise ValueError("target")
    return target


def _header_lines(headers: dict[str, Any]) -> Headers:
    lines = []
    for name, values in headers.items():
        if not isinstance(values, list | None):
            raise TypeError("header")
        for value in map(_checked, values or ()):
            if not _TOKEN.fullmatch(name) or _LINE_END.search(value):
                raise ValueError("header")
            lines.append((name, value.encode().decode("latin-1")))
    return tuple(lines)
