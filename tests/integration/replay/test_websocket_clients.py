"""WebSocket clients straight at the stream port, with the API server's certificate."""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlencode

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.typing import Subprotocol

from tests.integration.replay.conftest import Node
from tests.support.channels import STATUS, STDIN, STDOUT, exit_code

pytestmark = pytest.mark.lab

LIMIT = 50.0
RESIZE = 4
V4, BASE64 = "v4.channel.k8s.io", "base64.channel.k8s.io"
SIZE = int(os.environ.get("WEBSOCKET_BYTES", 8 << 20))
PIECE = 30_000
V1_LEAD = 1 << 20
"""Version 1 can't tell a sender to wait: it resets a channel that has 4 MiB unread. So nobody sends
this much more than what has come back."""


class Channels:
    """A client's end: messages whose first byte, or digit, is the channel."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._is_base64 = connection.subprotocol == BASE64
        self.received: dict[int, bytearray] = {}

    async def send(self, channel: int, data: bytes) -> None:
        if self._is_base64:
            await self._connection.send(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._connection.send(bytes([channel]) + data)

    async def receive(self) -> None:
        message = await self._connection.recv()
        data = message.encode() if isinstance(message, str) else message
        channel = data[0] - ord("0") if self._is_base64 else data[0]
        body = base64.b64decode(data[1:]) if self._is_base64 else data[1:]
        self.received.setdefault(channel, bytearray()).extend(body)

    async def until(self, channel: int, mark: bytes) -> bytes:
        while mark not in self.received.get(channel, b""):
            await self.receive()
        return bytes(self.received[channel])

    async def until_end(self) -> None:
        """Wait until the server has ended the session and closed the connection."""
        with suppress(ConnectionClosedOK):
            while True:
                await self.receive()


@asynccontextmanager
async def connected(node: Node, target: str, *protocols: str) -> AsyncIterator[Channels]:
    async with asyncio.timeout(LIMIT):
        async with connect(
            f"wss://127.0.0.1:{node.cloud.stream_port}{target}",
            ssl=node.cloud.client_context("apiserver-client"),
            subprotocols=[Subprotocol(name) for name in protocols],
            compression=None,
            max_size=None,
            close_timeout=None,
        ) as connection:
            yield Channels(connection)


def exec_target(*command: str, **streams: int) -> str:
    query = [*(("command", word) for word in command), *streams.items()]
    return f"/exec/default/single/app?{urlencode(query)}"


@pytest.mark.parametrize("protocol", [V4, BASE64])
async def test_stdin_and_exit(node: Node, protocol: str) -> None:
    script = "read line; echo got $line; exit 7"
    async with connected(node, exec_target("sh", "-c", script, input=1, output=1), protocol) as ws:
        await ws.send(STDIN, b"a line\n")
        assert await ws.until(STDOUT, b"\n") == b"got a line\n"
        if protocol == V4:
            told = await ws.until(STATUS, b'"7"}]')
            assert json.loads(told)["reason"] == "NonZeroExitCode"
            assert exit_code(told) == 7
        else:
            assert b"exit code 7" in await ws.until(STATUS, b"exit code 7")
        await ws.until_end()


async def test_success_is_told(node: Node) -> None:
    async with connected(node, exec_target("true", output=1), V4) as ws:
        assert exit_code(await ws.until(STATUS, b"Success")) == 0
        await ws.until_end()


async def test_resize(node: Node) -> None:
    async with connected(node, exec_target("sh", input=1, output=1, tty=1), V4) as ws:
        await ws.send(RESIZE, b'{"Width":101,"Height":37}\n')
        await ws.send(STDIN, b"while [ \"$(stty size)\" != '37 101' ]; do :; done; echo si''ze\n")
        await ws.until(STDOUT, b"size\r\n")
        await ws.send(STDIN, b"exit 3\n")
        assert exit_code(await ws.until(STATUS, b'"3"}]')) == 3


@pytest.mark.parametrize("protocol", [V4, BASE64])
async def test_both_directions_at_full_speed(node: Node, protocol: str) -> None:
    data = os.urandom(SIZE)
    command = exec_target("head", "-c", str(SIZE), input=1, output=1)
    async with connected(node, command, protocol) as ws:
        echoed = asyncio.Condition()

        async def send() -> None:
            for begin in range(0, SIZE, PIECE):
                if node.version == "v1":
                    async with echoed:
                        while begin - len(ws.received[STDOUT]) >= V1_LEAD:
                            await echoed.wait()
                await ws.send(STDIN, data[begin : begin + PIECE])

        async with asyncio.TaskGroup() as group:
            ws.received[STDOUT] = bytearray()
            group.create_task(send())
            while len(ws.received[STDOUT]) < SIZE:
                await ws.receive()
                async with echoed:
                    echoed.notify_all()
    received = ws.received[STDOUT]
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v3.channel.k8s.io", "tea.example"])
async def test_unknown_protocols_are_refused_before_anything_runs(
    node: Node, protocol: str
) -> None:
    mark = f"/tmp/{node.version}-{protocol}"
    with pytest.raises(InvalidStatus) as refusal:
        async with connected(node, exec_target("touch", mark, output=1), protocol):
            pass
    assert refusal.value.response.status_code == 403
    for command, code in ((("test", "-e", mark), 1), (("touch", mark), 0), (("rm", mark), 0)):
        async with connected(node, exec_target(*command, output=1), V4) as ws:
            assert exit_code(await ws.until(STATUS, b"}")) == code


async def test_port_forward(node: Node) -> None:
    if not node.lab.has_network:
        pytest.skip("pods can't have a network of their own here")
    async with connected(node, "/portForward/default/single?port=80", V4) as ws:
        await ws.send(0, b"GET / HTTP/1.0\r\n\r\n")
        page = await ws.until(0, b"hello from the lab\n")
    assert page.startswith((80).to_bytes(2, "little") + b"HTTP/1.")
