"""What can be told of work on the Kubernetes API that serving does not wait for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DutyStatus:
    """How far it has come."""

    pending: int
    """Pieces of work that still have to succeed."""
    sentence: str
    """What has been reached, or what is in the way."""
