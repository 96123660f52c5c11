"""The load: an API server's side, as fast as this language lets it be."""

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import cast

import aiofastnet
import uvloop

READ = 256 * 1024


def client_context(pki: Path) -> ssl.SSLContext:
    """Shows the API server's certificate; trusts the CA of the directory."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "apiserver-client.crt", pki / "apiserver-client.key")
    return context


def head_of(method: str, target: str, *, upgrade: bool = False) -> bytes:
    """A request head as an API server writes it."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1:10351"]
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """One blocking TLS connection."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=60)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw, server_hostname="127.0.0.1")
        self._buffer = bytearray(READ)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def read_head(self) -> bytes:
        """Read up to the end of a head; returns what came behind it."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self._socket.recv(READ)
            if not piece:
                raise ConnectionError(f"the server closed instead of answering: {data[:200]!r}")
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1]
        if status not in (b"200", b"101"):
            raise ConnectionError(f"the server answered {head[:200]!r}")
        return rest

    def read_until(self, ending: bytes, begun: bytes = b"") -> None:
        """Read on from what has come already to these last bytes."""
        while not begun.endswith(ending):
            piece = self._socket.recv(READ)
            if not piece:
                raise ConnectionError("the server closed in the middle of an answer")
            begun += piece

    def drain(self, size: int) -> None:
        """Read at least that many bytes and drop them."""
        view = memoryview(self._buffer)
        while size > 0:
            got = self._socket.recv_into(view)
            if not got:
                raise ConnectionError(f"the server closed {size} bytes too early")
            size -= got

    def close(self) -> None:
        """Close at once."""
        self._socket.close()


def download(port: int, context: ssl.SSLContext, size: int) -> float:
    """Seconds for a log of that many bytes."""
    connection = Connection(port, context)
    began = time.perf_counter()
    connection.send(head_of("GET", f"/containerLogs/bench/{size}/c"))
    rest = connection.read_head()
    connection.drain(size - len(rest))
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def download_for(port: int, pki: Path, size: int) -> None:
    """A download for a process of its own."""
    download(port, client_context(pki), size)


def upload(port: int, context: ssl.SSLContext, size: int) -> float:
    """Seconds until the container's side has taken that many bytes of stdin."""
    connection = Connection(port, context)
    connection.send(head_of("POST", f"/exec/bench/sink/c?{size}", upgrade=True))
    connection.read_head()
    piece = bytes(64 * 1024)
    began = time.perf_counter()
    for _ in range(size // len(piece)):
        connection.send(piece)
    connection.drain(4)
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def echo(port: int, context: ssl.SSLContext, size: int, rounds: int) -> list[float]:
    """Seconds of each round trip of ``size`` bytes, one after the other."""
    connection = Connection(port, context)
    connection.send(head_of("POST", "/exec/bench/echo/c", upgrade=True))
    connection.read_head()
    payload = bytes(size)
    latencies = []
    for _ in range(rounds):
        began = time.perf_counter()
        connection.send(payload)
        connection.drain(size)
        latencies.append(time.perf_counter() - began)
    connection.close()
    return latencies


class _EchoClient(asyncio.Protocol):
    def __init__(self, done: asyncio.Event, budget: list[int], size: int) -> None:
        self._done = done
        self._budget = budget
        self._payload = bytes(size)
        self._is_open = False
        self._transport: asyncio.Transport | None = None
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:

        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(head_of("POST", "/exec/bench/echo/c", upgrade=True))

    def data_received(self, data: bytes) -> None:
        assert self._transport
        if not self._is_open:
            self._is_open = True
            self._got = len(self._payload)
        else:
            self._got += len(data)
        while self._got >= len(self._payload):
            self._got -= len(self._payload)
            self._budget[0] -= 1
            if self._budget[0] <= 0:
                self._done.set()
                return
            self._transport.write(self._payload)


def echo_sessions(port: int, context: ssl.SSLContext, sessions: int, rounds: int) -> float:
    """Round trips per second of many sessions, each sending its next 64 bytes at once."""

    async def run() -> float:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        budget = [1 << 60]
        began = time.perf_counter()
        for _ in range(sessions):
            await aiofastnet.create_connection(
                loop, lambda: _EchoClient(done, budget, 64), "127.0.0.1", port, ssl=context
            )
        began, budget[0] = time.perf_counter(), rounds
        async with asyncio.timeout(120):
            await done.wait()
        return rounds / (time.perf_counter() - began)

    return uvloop.run(run())


def short_logs(port: int, context: ssl.SSLContext, requests: int) -> float:
    """Requests per second for a log of one line, on one kept-alive connection."""
    connection = Connection(port, context)
    began = time.perf_counter()
    for _ in range(requests):
        connection.send(head_of("GET", "/containerLogs/bench/128/c"))
        connection.read_until(b"0\r\n\r\n", connection.read_head())
    seconds = time.perf_counter() - began
    connection.close()
    return requests / seconds
