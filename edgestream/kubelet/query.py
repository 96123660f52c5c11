"""Query strings as Go's ``url.ParseQuery`` reads them, whose errors a kubelet ignores."""

import re
from urllib.parse import parse_qs

BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
"""A percent sign that begins no escape, which Go refuses and Python would take as it stands."""


def parse_query(query: str) -> dict[str, list[str]]:
    """All values of each name, in order; a name without ``=`` has an empty value.

    Pairs that hold a semicolon or a broken escape are left out. Bytes that are no UTF-8 are held
    as surrogate escapes.
    """
    pairs = [pair for pair in query.split("&") if ";" not in pair and not BAD_ESCAPE.search(pair)]
    return parse_qs(
        "&".join(pairs), keep_blank_values=True, encoding="utf-8", errors="surrogateescape"
    )


def is_one(values: dict[str, list[str]], name: str) -> bool:
    """Whether the name's first value is exactly ``1``, the only way to say yes."""
    return values.get(name, [""])[0] == "1"
