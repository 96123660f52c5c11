"""Request targets as Go's ``url.URL`` holds them, which is what a connect message carries.

``Path`` is decoded; ``RawPath`` is set only where the client's escaping is not Go's default one;
``RawQuery`` is verbatim. (Go ``net/url``: ``setPath``, ``shouldEscape`` in path mode.)
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

_UNESCAPED_IN_PATH = "$&+,/:;=@-_.~"
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class GoUrl:
    """The parts of a URL that vary between requests."""

    path: str
    raw_path: str
    raw_query: str
    force_query: bool

    @property
    def target(self) -> str:
        """The request target, escaped again as Go's ``RequestURI`` does it."""
        path = self.raw_path or escape_path(self.path) or "/"
        if self.force_query or self.raw_query:
            return f"{path}?{self.raw_query}"
        return path


def escape_path(path: str) -> str:
    """Escape as Go's default for paths. Bytes that are no UTF-8 are held as surrogate escapes."""
    return quote(path.encode(errors="surrogateescape"), safe=_UNESCAPED_IN_PATH)


def parse_target(target: str) -> GoUrl:
    """Split a request target. Raises ValueError for an escape that is none (``%zz``)."""
    raw_path, mark, raw_query = target.partition("?")
    if _BAD_ESCAPE.search(raw_path.encode(errors="surrogateescape")):
        raise ValueError(f"invalid URL escape in {raw_path!r}")
    path = unquote_to_bytes(raw_path).decode(errors="surrogateescape")
    is_default = escape_path(path) == raw_path
    return GoUrl(path, "" if is_default else raw_path, raw_query, bool(mark) and not raw_query)
