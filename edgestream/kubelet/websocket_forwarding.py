"""Port-forwarding over a WebSocket (``v4.channel.k8s.io``), for clients that speak no SPDY.

There is one connection to each port that the request names. Port number ``i`` of the list has the
channels ``2i`` for data and ``2i + 1`` for errors, and each channel begins with the port, as two
bytes, the lower one first. A message's first byte is its channel; in the base64 variant it is a
digit, and text follows. Nobody can say that one channel has ended, so the whole ends when the
servers of all ports have said all they had to say.
"""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.forwarding import Ports, forward
from edgestream.kubelet.inbox import Inbox, Room
from streamkit.errors import ChannelReset
from streamkit.service.tasks import cancel_all, spawn
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead, header_values

BINARY, BASE64 = "v4.channel.k8s.io", "v4.base64.channel.k8s.io"

MAX_HELD = 1 << 20
"""Bytes from the client that may wait for slow servers; then nothing is read from it any more."""

MAX_MESSAGE = 32 << 20
"""Bytes of one message from the client, the kubelet's limit."""

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


def accept_websocket(request: RequestHead) -> ResponseHead:
    """The 101 for a WebSocket client. Raises the KubeletAnswer for one that can't be served."""

    def first(name: str) -> str:
        return next(iter(header_values(request.headers, name)), "").strip()

    if request.method != "GET":
        raise KubeletAnswer(405, "bad method", headers=())
    if first("sec-websocket-version") != "13":
        version: Headers = (("Sec-WebSocket-Version", "13"),)
        raise KubeletAnswer(400, "missing or bad WebSocket Version", headers=version)
    key = first("sec-websocket-key")
    if not key:
        raise KubeletAnswer(400, "mismatch challenge/response", headers=())
    accepted = base64.b64encode(hashlib.sha1(f"{key}{_MAGIC}".encode()).digest()).decode()
    headers: Headers = (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accepted),
    )
    if protocol := _chosen_protocol(request):
        headers = (*headers, ("Sec-WebSocket-Protocol", protocol))
    return ResponseHead(101, headers)


def _chosen_protocol(request: RequestHead) -> str:
    """The first one that the client offers and that is known; empty if it offers none at all."""
    lines = header_values(request.headers, "sec-websocket-protocol")
    offered = [name.strip() for line in lines for name in line.split(",")]
    known = [name for name in offered if name in (BINARY, BASE64)]
    if offered and not known:
        raise KubeletAnswer(403, "", headers=())
    return known[0] if known else ""


class WebSocketForwarding:
    """One client, with one connection to each of its ports."""

    def __init__(self, exchange: Exchange, ports: Ports, numbers: Sequence[int]) -> None:
        self._exchange = exchange
        self._ports = ports
        self._is_base64 = _chosen_protocol(exchange.request) == BASE64
        self._websocket = Protocol(Side.SERVER, max_size=MAX_MESSAGE)
        self._writing = asyncio.Lock()
        self._room = Room(MAX_HELD)
        self._message = bytearray()
        self._channels = [
            _Channels(2 * index, number, Inbox(self._room), self._send)
            for index, number in enumerate(numbers)
        ]

    async def run(self) -> None:
        """Serve until all servers have ended, or the client has; then drop all."""
        for each in self._channels:
            await each.announce()
        tasks: set[asyncio.Task[Any]] = set()
        for each in self._channels:
            spawn(self._forward(each), name=f"forward {each.port}", owner=tasks)
        ends = (
            spawn(self._receive(), name="receive messages", owner=tasks),
            spawn(self._all_over(), name="wait for servers", owner=tasks),
        )
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if self._websocket.state is OPEN:
                self._websocket.send_close(CloseCode.NORMAL_CLOSURE)
            await self._flush()
        finally:
            await cancel_all(tasks)

    async def _forward(self, channels: "_Channels") -> None:
        try:
            await forward(self._ports, channels.port, channels.inbox, channels)
        except ChannelReset:
            return  # the client is gone, and the exchange as a whole is about to be cancelled

    async def _all_over(self) -> None:
        for each in self._channels:
            await each.is_over.wait()

    async def _receive(self) -> None:
        """Take messages until the client ends or breaks the protocol."""
        while self._websocket.state is OPEN and (data := await self._exchange.read()):
            self._websocket.receive_data(data)
            for event in self._websocket.events_received():
                if isinstance(event, Frame):
                    self._take(event)
            await self._flush()  # pongs
            await self._room.available()

    def _take(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        self._message += frame.data
        if not frame.fin:
            return
        message, self._message = bytes(self._message), bytearray()
        if not message:
            return
        try:
            data = base64.b64decode(message[1:], validate=True) if self._is_base64 else message[1:]
        except binascii.Error:
            self._websocket.fail(CloseCode.INVALID_DATA)
            return
        channel = message[0] - (ord("0") if self._is_base64 else 0)
        index, is_error = divmod(channel, 2)
        if data and not is_error and index in range(len(self._channels)):
            self._channels[index].inbox.put(data)

    async def _send(self, channel: int, data: bytes) -> None:
        async with self._writing:
            if self._is_base64:
                self._websocket.send_text(bytes([ord("0") + channel]) + base64.b64encode(data))
            else:
                self._websocket.send_binary(bytes([channel]) + data)
            await self._write_out()

    async def _flush(self) -> None:
        async with self._writing:
            await self._write_out()

    async def _write_out(self) -> None:
        if data := b"".join(self._websocket.data_to_send()):
            await self._exchange.write(data)


class _Channels:
    """The two channels of one port. A ``Caller``."""

    def __init__(
        self, first: int, port: int, inbox: Inbox, send: Callable[[int, bytes], Awaitable[None]]
    ) -> None:
        self.port = port
        self.inbox = inbox
        self.is_over = asyncio.Event()
        self._data, self._errors = first, first + 1
        self._send = send

    async def announce(self) -> None:
        """Tell the client which port this is."""
        for channel in (self._data, self._errors):
            await self._send(channel, self.port.to_bytes(2, "little"))

    async def write(self, data: bytes) -> None:
        await self._send(self._data, data)

    async def write_eof(self) -> None:
        """There is no way to tell."""

    async def succeed(self) -> None:
        self.is_over.set()

    async def fail(self, sentence: str) -> None:
        await self._send(self._errors, sentence.encode(errors="replace"))
        self.is_over.set()
