"""The heads of an HTTP exchange, as a channel carries them.

A channel is one HTTP exchange: an open (method, target, headers), a head (status, headers), and two
byte streams, each ended by an end (half-close) or a reset.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

Headers = tuple[tuple[str, str], ...]
"""Header lines in order, names as received; repeated names stay separate lines.

Text stands for bytes, one character each (latin-1), as HTTP libraries hold them."""


def header_values(headers: Headers, name: str) -> list[str]:
    """All values of the header, in order. Names are compared without case (RFC 9110 §5.1)."""
    wanted = name.lower()
    return [value for key, value in headers if key.lower() == wanted]


def without_headers(headers: Headers, names: Iterable[str]) -> Headers:
    """The header lines whose (lower-case) name is not among those given."""
    dropped = frozenset(names)
    return tuple((key, value) for key, value in headers if key.lower() not in dropped)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the API server asked: ``target`` is the path with its query, still percent-encoded."""

    method: str
    target: str
    headers: Headers = ()

    @property
    def path(self) -> str:
        """The target without its query, percent-encoded as it came."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The raw query string, without the question mark."""
        return self.target.partition("?")[2]

    @property
    def is_upgrade(self) -> bool:
        """Whether any Connection header contains ``upgrade``, as the kubelet tests it."""
        return any(
            "upgrade" in value.lower() for value in header_values(self.headers, "connection")
        )

    @property
    def has_body(self) -> bool:
        """Whether a body is announced."""
        lengths = header_values(self.headers, "content-length")
        return bool(header_values(self.headers, "transfer-encoding")) or any(
            length.strip() != "0" for length in lengths
        )


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What the edge decided. A status of 101 means that raw bytes follow in both directions."""

    status: int
    headers: Headers = ()
    reason: str = field(default="")

    @property
    def phrase(self) -> str:
        """The reason phrase: the one given, else the standard one for the status."""
        if self.reason:
            return self.reason
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return "Unknown"
