"""KubeEdge's EdgeStream as it behaves on the wire, its defects included.

It relays an Exec- or AttachConnect to its kubelet without looking at the answer: data in messages
of 256 bytes. It sends nothing at all where the kubelet can't be reached. What would kill the real
one is recorded in ``violations``.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from streamkit.wire.message import MessageType, decode_message, encode_message
from tests.support.cloud import NODE, Cloud
from tests.support.frames import CLOSE, PING, PONG, TEXT, Frame, fragments, frame, read_frame
from tests.support.wait import until

Kubelet = Callable[["KubeletCall"], Awaitable[None]]
"""Answers one request as a kubelet does; what it raises as OSError is a kubelet that is down."""

_CONNECTS = (0, 1, 2, 6)
_MAX_DATA = 1 << 20
_READ_SIZE = 256


@dataclass(frozen=True)
class Received:
    """A message of the cloud."""

    channel_id: int
    type: int
    data: bytes


class KubeletCall:
    """One request that the edge put to its kubelet."""

    def __init__(self, edge: "StockEdge", channel_id: int, fields: dict[str, Any]) -> None:
        self._edge = edge
        self._input: asyncio.Queue[bytes] = asyncio.Queue(maxsize=128)
        self.channel_id = channel_id
        self.fields = fields
        self.has_answered = False

    @property
    def method(self) -> str:
        return str(self.fields.get("method", "GET"))

    @property
    def path(self) -> str:
        return str(self.fields["url"]["Path"])

    @property
    def headers(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = self.fields["header"]
        return found

    async def write(self, data: bytes, *, size: int = _READ_SIZE) -> None:
        """Answer: leaves in messages of that many bytes."""
        for begin in range(0, len(data), size):
            self._edge.send(self.channel_id, MessageType.DATA, data[begin : begin + size])
            self.has_answered = True
        await self._edge.drain()

    async def read(self) -> bytes:
        """What the caller sent on an upgraded stream, message by message."""
        return await self._input.get()

    async def take(self, data: bytes) -> None:
        """The edge's reading loop waits here when the kubelet does not read."""
        await self._input.put(data)


class StockEdge:
    """One tunnel of a stock edge."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kubelet: Kubelet
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._kubelet = kubelet
        self._calls: dict[int, tuple[KubeletCall, asyncio.Task[None]]] = {}
        self._removed: set[int] = set()
        self.received: list[Received] = []
        self.violations: list[str] = []
        self.control: list[Frame] = []
        """Pings, pongs and closes of the cloud."""
        self.answers_pings = True
        self.is_closed = False

    # -- what tests do -------------------------------------------------------------------------

    def send(self, channel_id: int, kind: int, data: bytes = b"") -> None:
        """Send a message as text, in fragments where it is long."""
        self.send_raw(fragments(encode_message(channel_id, kind, data)))

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be a frame."""
        self._writer.write(data)

    def ping(self) -> None:
        """What the real one does every 5 s."""
        self.send_raw(frame(PING, b"ping you", masked=True))

    async def drain(self) -> None:
        await self._writer.drain()

    def count(self, kind: int, channel_id: int | None = None) -> int:
        """How many messages of that type have come, of one channel or of all."""
        return sum(
            each.type == kind and channel_id in (None, each.channel_id) for each in self.received
        )

    @property
    def live(self) -> int:
        """Requests that its kubelet still answers."""
        return len(self._calls)

    def abort(self) -> None:
        """Leave without a word."""
        self._writer.transport.abort()

    # -- the reading loop ------------------------------------------------------------------------

    async def run(self) -> None:
        """Take what the cloud sends until the tunnel ends."""
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    while not self.is_closed:
                        await self._take(await read_frame(self._reader), group)
                finally:
                    self.is_closed = True
                    for _, task in tuple(self._calls.values()):
                        task.cancel()
        except* (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.abort()

    async def _take(self, received: Frame, group: asyncio.TaskGroup) -> None:
        if received.is_masked or not received.fin:
            self.violations.append("a masked frame or a fragment")
        if received.opcode in (PING, PONG, CLOSE):
            self.control.append(received)
            if received.opcode == PING and self.answers_pings:
                self.send_raw(frame(PONG, received.payload, masked=True))
            self.is_closed = received.opcode == CLOSE
            return
        if received.opcode != TEXT:
            self.violations.append("a message that is no text")
        message = decode_message(received.payload)
        data = bytes(message.data)
        self.received.append(Received(message.channel_id, message.type, data))
        if len(data) > _MAX_DATA:
            self.violations.append("a message that is cut")
        if message.channel_id in self._removed:
            self.violations.append(f"a message of type {message.type} behind RemoveConnect")
        if message.type in _CONNECTS:
            self._connect(message.channel_id, json.loads(data), group)
        elif message.type == MessageType.DATA:
            await self._data(message.channel_id, data)
        elif message.type == MessageType.REMOVE_CONNECT:
            self._remove(message.channel_id)
        else:
            self.violations.append(f"a message of type {message.type}")

    def _connect(self, channel_id: int, fields: dict[str, Any], group: asyncio.TaskGroup) -> None:
        if fields["MessID"] != channel_id:
            self.violations.append("two ids that differ")
        if fields.get("header") is None:
            self.violations.append("a header that is null")
        call = KubeletCall(self, channel_id, fields)
        task = group.create_task(self._answer(call))
        self._calls[channel_id] = (call, task)

    async def _answer(self, call: KubeletCall) -> None:
        try:
            await self._kubelet(call)
        except OSError:
            # The real one logs this and forgets the request: nothing is sent.
            return
        except asyncio.CancelledError:
            if self.is_closed:
                raise
        finally:
            self._calls.pop(call.channel_id, None)
        self.send(call.channel_id, MessageType.REMOVE_CONNECT)

    async def _data(self, channel_id: int, data: bytes) -> None:
        if (entry := self._calls.get(channel_id)) is None:
            return
        if not entry[0].has_answered:
            self.violations.append("data before the edge's first")
        await entry[0].take(data)

    def _remove(self, channel_id: int) -> None:
        self._removed.add(channel_id)
        if entry := self._calls.get(channel_id):
            entry[1].cancel()


@contextlib.asynccontextmanager
async def stock_edge(
    cloud: Cloud, kubelet: Kubelet, *, node: str = NODE, node_ip: str = "10.0.0.1", port: int = 0
) -> AsyncIterator[StockEdge]:
    """A stock edge that is connected when the block begins."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port or cloud.tunnel_port, ssl=cloud.client_context(f"edge-{node}")
    )
    writer.write(
        (
            "GET /v1/kubeedge/connect HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{cloud.tunnel_port}\r\n"
            "User-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: 2PUmCzwkPoGK91r5pzKaqw==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sessionhostnameoverride: {node}\r\nSessioninternalip: {node_ip}\r\n"
            "Upgrade: websocket\r\n\r\n"
        ).encode()
    )
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    edge = StockEdge(reader, writer, kubelet)
    task = asyncio.create_task(edge.run())
    try:
        await until(lambda: cloud.service.registry.find(node) is not None)
        yield edge
    finally:
        edge.abort()
        task.cancel()
        await asyncio.wait((task,), timeout=10)
