"""Request targets as Go's ``url.URL`` holds them, which is what a connect message carries.

``Path`` is decoded; ``RawPath`` is set only where the client's escaping is not Go's default one;
``RawQuery`` is verbatim. (Go ``net/url``: ``setPath``, ``shouldEscape`` in path mode.)
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

_UNESCAPED_IN_PATH = "$&+,/:;=@-_.~"
_VALID_RAW_PATH = re.compile(r"(?:[A-Za-z0-9\-_.~!$&'()*+,;=:@\[\]/]|%[0-9A-Fa-f]{2})*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


@dataclass(frozen=True, slots=True)
class GoUrl:
    """The parts of a URL that vary between requests."""

    path: str
    raw_path: str
    raw_query: str
    force_query: bool

    @property
    def target(self) -> str:
        """The request target, escaped again as Go's ``RequestURI`` does it.

        ``raw_path`` counts only where it is an escaping of ``path``. A query beyond ASCII, which Go
        would send as it stands, is escaped as well.
        """
        path = self.raw_path if self._raw_path_fits() else escape_path(self.path)
        if self.force_query or self.raw_query:
            query = _BEYOND_ASCII.sub(lambda match: quote(match[0]), self.raw_query)
            return f"{path or '/'}?{query}"
        return path or "/"

    def _raw_path_fits(self) -> bool:
        return bool(_VALID_RAW_PATH.fullmatch(self.raw_path)) and (
            unquote(self.raw_path, errors="surrogateescape") == self.path
        )


def escape_path(path: str) -> str:
    """Escape as Go's default for paths."""
    return quote(path, safe=_UNESCAPED_IN_PATH)


def parse_target(target: str) -> GoUrl:
    """Split a request target.

    Raises ValueError for what is no path, for an escape that is none (``%zz``), and for a path that
    is no UTF-8, since JSON can't hold it.
    """
    raw_path, mark, raw_query = target.partition("?")
    if not raw_path.startswith("/"):
        raise ValueError("it is no path")
    if _BAD_ESCAPE.search(raw_path):
        raise ValueError("its path has an invalid escape")
    try:
        path = unquote(raw_path, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("its path is no UTF-8") from None
    is_default = escape_path(path) == raw_path
    return GoUrl(path, "" if is_default else raw_path, raw_query, bool(mark) and not raw_query)
