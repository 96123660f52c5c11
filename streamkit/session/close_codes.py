"""WebSocket close codes of the tunnel, and what each means for dialling again.

1000–1011 are RFC 6455 §7.4's; 4000–4999 are for private use and ours. A stock peer closes without
any code and does not look at ours.
"""

from enum import IntEnum

from streamkit.errors import (
    HandshakeRejected,
    HeartbeatTimeout,
    LocalProtocolError,
    MessageTooLarge,
    ProtocolError,
    StreamError,
    TunnelReplaced,
)


class CloseCode(IntEnum):
    """Why a tunnel is closed."""

    SHUTTING_DOWN = 1001
    PROTOCOL_ERROR = 1002
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    REPLACED = 4001
    UNAUTHORISED = 4003
    DRAINING = 4004
    HEARTBEAT = 4008


def close_code_of(error: StreamError) -> CloseCode:
    """The code that tells the peer about this error."""
    match error:
        case TunnelReplaced():
            return CloseCode.REPLACED
        case HandshakeRejected():
            return CloseCode.UNAUTHORISED
        case HeartbeatTimeout():
            return CloseCode.HEARTBEAT
        case LocalProtocolError():
            return CloseCode.INTERNAL_ERROR
        case MessageTooLarge():
            return CloseCode.TOO_BIG
        case ProtocolError():
            return CloseCode.PROTOCOL_ERROR
        case _:
            return CloseCode.SHUTTING_DOWN


def close_reason_of(error: StreamError) -> str:
    """The error's sentence, cut to the 123 bytes that a close frame holds (RFC 6455 §5.5)."""
    return str(error).encode(errors="replace")[:123].decode(errors="ignore")
