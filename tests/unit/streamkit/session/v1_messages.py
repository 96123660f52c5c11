"""What a v1 session says to its peer, taken apart."""

from streamkit.session.session import Session
from streamkit.wire.message import MessageType, decode_message
from tests.support.messages import messages_of

DATA, REMOVE = MessageType.DATA, MessageType.REMOVE_CONNECT

Sent = tuple[int, int, bytes]


def sent(session: Session) -> list[Sent]:
    """All that the session has to send now: ids, types and data."""
    messages = []
    for payload in messages_of(session):
        message = decode_message(payload)
        messages.append((message.channel_id, message.type, bytes(message.data)))
    return messages
