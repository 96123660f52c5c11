"""A command in a container over a WebSocket, as clients that speak no SPDY run it.

It goes straight to the stream port: an API server that passes WebSockets on would send the same.
"""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from lab.layout import HOST, Layout
from tests.e2e.stack import DEADLINE, wait_until

PROTOCOL = Subprotocol("v4.channel.k8s.io")
STDIN, STDOUT, STATUS = 0, 1, 3


class Session:
    """One running command."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.received = {channel: bytearray() for channel in range(4)}
        """What has come, by channel."""
        self._threads = [threading.Thread(target=self._receive)]
        self._threads[0].start()

    def send(self, data: bytes) -> None:
        """Give the command input."""
        self._connection.send(bytes((STDIN,)) + data)

    def send_without_end(self) -> None:
        """Give the command input for as long as it is taken."""
        self._threads.append(threading.Thread(target=self._send_without_end))
        self._threads[-1].start()

    def wait_for(self, text: bytes) -> None:
        """Wait until the command has printed that."""
        wait_until(lambda: text in self.received[STDOUT], f"{text!r} over a WebSocket")

    def status(self, deadline: float) -> dict[str, Any]:
        """Wait for the session's end, and return the status that it ended with."""
        self._threads[0].join(deadline)
        assert not self._threads[0].is_alive()
        found: dict[str, Any] = json.loads(self.received[STATUS])
        return found

    def join(self) -> None:
        """Wait for what still goes on, once the connection is closed."""
        for thread in self._threads:
            thread.join(DEADLINE)

    def _receive(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in self._connection:
                assert isinstance(message, bytes)
                self.received[message[0]] += message[1:]

    def _send_without_end(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.send(bytes(32_768))


@contextlib.contextmanager
def session(layout: Layout, pod: str, *command: str) -> Iterator[Session]:
    """Run the command, in the pod's container of the same name, for the length of the block."""
    flags = [("input", "1"), ("output", "1"), ("error", "1")]
    query = urlencode([("command", word) for word in command] + flags)
    context = ssl.create_default_context(cafile=layout.pki / "ca.crt")
    key = layout.pki / "apiserver-client"
    context.load_cert_chain(key.with_suffix(".crt"), key.with_suffix(".key"))
    with connect(
        f"wss://{HOST}:{layout.stream_port}/exec/default/{pod}/{pod}?{query}",
        ssl=context,
        subprotocols=[PROTOCOL],
        compression=None,
        ping_interval=None,
        open_timeout=DEADLINE,
    ) as connection:
        assert connection.subprotocol == PROTOCOL
        made = Session(connection)
        yield made
    made.join()
