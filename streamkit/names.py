"""The names that Kubernetes allows."""

import re

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def is_dns_subdomain(text: str) -> bool:
    """Whether a node may bear that name (RFC 1123); it is safe as a host and as a file name too."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None
