"""A client of ``v4.channel.k8s.io``: WebSocket messages whose first byte is the channel.

In ``v4.base64.channel.k8s.io`` that is a digit, and the rest is base64.
"""

import base64
import json
from collections import defaultdict
from typing import Any, Self

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from streamkit.wire.exchange import RequestHead, ResponseHead
from tests.support.exchange import MemoryExchange

BINARY, BASE64 = "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS = range(4)


class ChannelClient:
    """The caller's end of an exchange that is upgraded to channels."""

    def __init__(self, target: str, *, protocol: str = BINARY, room: int = 1 << 16) -> None:
        self._chosen = protocol
        self.protocol = ClientProtocol(
            parse_uri(f"ws://edge{target}"), subprotocols=[Subprotocol(protocol)]
        )
        self.others: list[Frame] = []
        """Frames that are no messages."""
        request = self.protocol.connect()
        self.protocol.send_request(request)
        self.protocol.data_to_send()  # the exchange carries the request's head as such
        head = RequestHead("GET", target, tuple(request.headers.raw_items()))
        self.exchange = MemoryExchange(head, room=room)
        self._received: defaultdict[int, bytearray] = defaultdict(bytearray)

    async def connect(self) -> Self:
        """Wait for the 101. Fails an assertion for any other answer."""
        head = await self.exchange.head()
        assert head.status == 101, (head, await self.exchange.receive_all())
        self.protocol.receive_data(_head_bytes(head))
        (response,) = self.protocol.events_received()
        assert isinstance(response, Response)
        assert self.protocol.subprotocol == self._chosen
        return self

    async def send(self, channel: int, data: bytes) -> None:
        """Send one message on the channel."""
        if self._chosen == BASE64:
            self.protocol.send_text(b"%d" % channel + base64.b64encode(data))
        else:
            self.protocol.send_binary(bytes([channel]) + data)
        await self.flush()

    async def flush(self) -> None:
        """Send what the protocol has to say."""
        for piece in self.protocol.data_to_send():
            await self.exchange.send(piece)

    async def receive_until(self, channel: int, mark: bytes) -> bytes:
        """All of the channel up to the message that completes the mark; fails at the end."""
        while mark not in self._received[channel]:
            assert await self._receive(), "the stream ended early"
        return bytes(self._received[channel])

    async def receive_all(self) -> dict[int, bytes]:
        """All channels, up to the end of the exchange."""
        while await self._receive():
            pass
        return {channel: bytes(data) for channel, data in self._received.items() if data}

    async def _receive(self) -> bool:
        data = await self.exchange.receive()
        if not data:
            return False
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode is Opcode.BINARY:
                self._received[event.data[0]] += event.data[1:]
            elif event.opcode is Opcode.TEXT:
                self._received[int(event.data[:1])] += base64.b64decode(event.data[1:])
            else:
                self.others.append(event)
        return True


def exit_code(status: bytes) -> int:
    """The exit code that a status message tells."""
    told: dict[str, Any] = json.loads(status)
    if told["status"] == "Success":
        return 0
    assert told["reason"] == "NonZeroExitCode", told
    return int(told["details"]["causes"][0]["message"])


def _head_bytes(head: ResponseHead) -> bytes:
    lines = [f"HTTP/1.1 {head.status} {head.phrase}", *(f"{n}: {v}" for n, v in head.headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
