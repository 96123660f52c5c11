"""What a mux reports about its channels."""

from dataclasses import dataclass

from streamkit.wire.exchange import RequestHead, ResponseHead


@dataclass(frozen=True, slots=True)
class Opened:
    """The cloud opened a channel. ``body_only``: the peer's kind of channel carries no head."""

    channel_id: int
    request: RequestHead
    body_only: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A channel was asked for in a way that can't be served."""

    channel_id: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Headed:
    """The edge decided the answer's status."""

    channel_id: int
    head: ResponseHead


@dataclass(slots=True)  # one is made for each message, and frozen ones cost more than twice as much
class Received:
    """Bytes of the peer's direction; the receiver reports them ``consumed`` when it took them."""

    channel_id: int
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer's direction is complete."""

    channel_id: int


@dataclass(frozen=True, slots=True)
class WasReset:
    """The channel is gone: nothing follows in either direction."""

    channel_id: int
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Drained:
    """The peer wants the edge to dial again soon; what runs goes on until it ends."""

    sentence: str


Event = Opened | Refused | Headed | Received | Ended | WasReset | Drained
