"""What a session is to the tunnel adapter that drives it, and to the service that owns it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from streamkit.errors import StreamError
from streamkit.session.channel import Channel, ChannelHandler
from streamkit.wire.exchange import RequestHead
from streamkit.wire.message import Pieces

ChannelAcceptor = Callable[[Channel], ChannelHandler]
"""How an edge takes a channel that the cloud opened: returns the handler that will answer it."""


class Session(ABC):
    """All channels of one node.

    The adapter calls ``message_received`` for each message that arrives and, whenever
    ``output_ready`` has been called and its socket has room, ``next_message`` until that is None.
    """

    is_text: bool
    """Whether messages travel in text frames (v1) or in binary ones."""

    can_resume = False
    """Whether the channels can go on over another tunnel."""

    carries_pod_facts = False
    """Whether the peer is one of ours, to be told what is known of a request's pod."""

    def __init__(self) -> None:
        self.output_ready: Callable[[], None] = lambda: None
        """Set by the adapter: called when there may be something to send."""
        self.read_on: Callable[[], None] = lambda: None
        """Set by the adapter: called when no channel is crowded any more."""
        self.drained: Callable[[str], None] = lambda sentence: None
        """Called when the peer drains: a cloud asks its edge to dial again, an edge has done so."""

    @property
    def is_crowded(self) -> bool:
        """Whether the adapter should read less for now: the reader of some channel lags behind."""
        return False

    @property
    def is_greeted(self) -> bool:
        """Whether the peer has said on this tunnel all that has to come before channels."""
        return True

    @property
    def peer_resume_timeout(self) -> float:
        """Seconds for which the peer keeps the session when the tunnel is lost."""
        return 0.0

    @abstractmethod
    def attach(self) -> None:
        """A tunnel begins to carry the session."""

    @abstractmethod
    def detach(self) -> None:
        """The tunnel is gone; the session waits for another, or is closed."""

    @abstractmethod
    def round_trip_measured(self, seconds: float) -> None:
        """How long a message takes to the peer and back."""

    @abstractmethod
    def limit_messages(self, size: int) -> None:
        """From now on a message should carry no more data bytes than that."""

    @abstractmethod
    def message_received(self, payload: bytes) -> None:
        """Take one message. Raises RemoteProtocolError: tunnel and session must then be ended.

        Raises HandshakeRejected where the peer asks us to hang up (v1's CloseConnect).
        """

    @abstractmethod
    def next_message(self) -> Pieces | None:
        """The next message to send, or None."""

    @abstractmethod
    def close(self, error: StreamError) -> None:
        """Reset every channel with the error. Idempotent; nothing can be opened afterwards."""

    @property
    @abstractmethod
    def channel_count(self) -> int:
        """How many channels live."""


class CloudSession(Session):
    """A session that opens channels."""

    @abstractmethod
    def open(self, request: RequestHead, handler: ChannelHandler, body: bytes = b"") -> Channel:
        """Open a channel for a request and all of its body; the handler hears of the answer.

        Raises BadConnectRequest for a target that can't be carried, BadRequest for a body that
        can't, and the session's error where it has been closed.
        """
