"""A v1 session at the edge whose cloud the test plays."""

import json
from collections.abc import Callable

from edgestream.channel_exchange import ChannelExchange
from streamkit.session.channel import Channel, ChannelHandler
from streamkit.session.v1_edge import V1EdgeSession
from streamkit.wire.message import MessageType, decode_message, encode_message
from tests.support.messages import messages_of

LIMIT = 1 << 20
DATA, REMOVE = MessageType.DATA, MessageType.REMOVE_CONNECT

Sent = tuple[int, int, bytes]


class CloudSide:
    """Opens channels, sends and takes messages. ``accept`` is the session's acceptor."""

    def __init__(self, accept: Callable[[Channel], ChannelHandler]) -> None:
        self.session = V1EdgeSession(accept, buffer_limit=LIMIT)
        self._opened = 0

    def open(self, path: str = "/x", kind: int = MessageType.EXEC_CONNECT) -> int:
        self._opened += 1
        fields = {"MessID": self._opened, "url": {"Path": path}}
        self.send(json.dumps(fields).encode(), kind, self._opened)
        return self._opened

    def send(self, data: bytes = b"", kind: int = DATA, channel_id: int = 1) -> None:
        self.session.message_received(encode_message(channel_id, kind, data))

    def receive(self) -> list[Sent]:
        """All that the edge has to send now."""
        messages = []
        for payload in messages_of(self.session):
            message = decode_message(payload)
            messages.append((message.channel_id, message.type, bytes(message.data)))
        return messages


def opened_exchange() -> tuple[CloudSide, ChannelExchange]:
    """One open channel and its exchange."""
    exchanges: list[ChannelExchange] = []

    def accept(channel: Channel) -> ChannelHandler:
        exchanges.append(ChannelExchange(channel))
        return exchanges[-1]

    cloud = CloudSide(accept)
    cloud.open()
    return cloud, exchanges[0]
