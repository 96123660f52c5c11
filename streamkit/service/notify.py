"""What systemd is told over ``$NOTIFY_SOCKET``: readiness, status, stopping, signs of life.

The protocol is one datagram of ``KEY=value`` lines per notification (sd_notify(3)). Without that
variable, as in a container or a terminal, every call does nothing; a notification that can't be
delivered is dropped, since no service should fail or wait because its supervisor does.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, MutableMapping


class Notifier:
    """The way to the service manager. Calls never block and never raise."""

    def __init__(self, address: str = "", *, watchdog_interval: float | None = None) -> None:
        # "@" stands for the NUL byte with which names in the abstract namespace begin.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_interval = watchdog_interval
        """Seconds between two signs of life, half of what the manager allows; None = not asked."""

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "Notifier":
        """The notifier that the manager asked for; its variables are removed, for our children."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        for_us = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        interval = int(microseconds) / 2e6 if for_us and microseconds.isdigit() else None
        return cls(address, watchdog_interval=interval or None)

    def ready(self, status: str = "") -> None:
        """The service serves; ``status`` is a line for people."""
        self._send("READY=1", *self._status(status))

    def status(self, text: str) -> None:
        """One line for people about what the service is doing."""
        self._send(*self._status(text))

    def reloading(self) -> None:
        """A reload has begun; ``ready`` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str = "") -> None:
        """The service is shutting down."""
        self._send("STOPPING=1", *self._status(status))

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._send("WATCHDOG=1")

    async def keep_alive(self, is_alive: Callable[[], bool]) -> None:
        """Give a sign of life at each interval at which ``is_alive()`` holds, until cancelled.

        That this runs proves that the loop turns; ``is_alive`` proves the rest. Returns at once if
        nobody watches.
        """
        while self.watchdog_interval:
            if is_alive():
                self.alive()
            await asyncio.sleep(self.watchdog_interval)

    @staticmethod
    def _status(text: str) -> list[str]:
        return [f"STATUS={' '.join(text.split())}"] if text else []

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)
