"""Runs a service's coroutine in an event loop until it ends or a signal ends it."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from streamkit.service.cli import Exit, report

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_service(
    program: str,
    main: Callable[[], Awaitable[None]],
    *,
    verbosity: int,
    hung_up: Callable[[], object] | None = None,
    uvloop: bool = False,
) -> int:
    """Await ``main()`` and return the process's exit code.

    The first SIGTERM or SIGINT cancels it once, so that it can close in an orderly way; the code is
    then 143 or 130. A second one exits on the spot. SIGHUP calls ``hung_up`` where there is one. An
    error is told on stderr. ``uvloop`` asks for that event loop, where it is installed.
    """
    handlers = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGHUP)}
    try:
        with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
            return runner.run(_until_signal(main, hung_up))
    except Exception as error:
        return report(program, error, verbosity=verbosity)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _loop_factory(uvloop: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not uvloop:
        return None
    try:
        from uvloop import new_event_loop
    except ImportError:
        log.info("uvloop is not installed: idle tunnels take more memory")
        return None
    return new_event_loop


async def _until_signal(
    main: Callable[[], Awaitable[None]], hung_up: Callable[[], object] | None
) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.set_exception_handler(_report)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        log.info("%s: stopping; a second signal exits at once", number.name)
        # From here on not by way of the loop: the second signal is for a loop that hangs.
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, _exit_at_once)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    if hung_up:
        loop.add_signal_handler(signal.SIGHUP, hung_up)
    try:
        await main()
    except asyncio.CancelledError:
        if not received:
            raise
    return 128 + received[0] if received else Exit.OK


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log, in one line, what the loop has to say; failed TLS handshakes are told by their owners.

    The exception in ``context`` may be a class, where a library was careless.
    """
    message, error = context.get("message", "the event loop met an error"), context.get("exception")
    if message != "SSL handshake failed":
        log.error("%s", message, exc_info=error if isinstance(error, BaseException) else None)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
