"""Which header lines are about one connection only."""

from streamkit.wire.exchange import Headers, header_values, without_headers

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Those that are never passed on (RFC 9110 §7.6.1, §6.6.2 and §11.7), in lower case."""


def end_to_end(headers: Headers) -> Headers:
    """The header lines to pass on: all but the hop-by-hop ones and those that Connection names."""
    named = ",".join(header_values(headers, "connection")).lower().split(",")
    return without_headers(headers, HOP_BY_HOP.union(name.strip() for name in named))
