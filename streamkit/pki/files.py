"""Where the key material of one TLS endpoint lies."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The CA that peers are verified against, our certificate and its private key; PEM or DER."""

    ca: Path
    cert: Path
    key: Path
