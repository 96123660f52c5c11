"""The one place that starts tasks: each has a name, an owner, and an end that somebody hears of."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from streamkit.errors import StreamError

log = logging.getLogger(__name__)

T = TypeVar("T")

Owner = set[asyncio.Task[Any]] | asyncio.TaskGroup


def spawn(coro: Coroutine[Any, Any, T], *, name: str, owner: Owner) -> asyncio.Task[T]:
    """Start the coroutine as a task that its owner holds until it ends.

    In a set, the task leaves the set when it ends, and if it failed, one line in the log says so;
    whoever awaits it gets the exception as well. The owner of the set cancels what is left in it. A
    TaskGroup handles the failures of its tasks itself; one that is shutting down raises
    RuntimeError, and the coroutine is closed.
    """
    if isinstance(owner, asyncio.TaskGroup):
        try:
            return owner.create_task(coro, name=name)
        except RuntimeError:
            coro.close()
            raise
    task = asyncio.get_running_loop().create_task(coro, name=name)
    owner.add(task)
    task.add_done_callback(owner.discard)
    task.add_done_callback(_log_crash)
    return task


async def cancel_all(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel what an owner still holds, and wait until all of it has ended."""
    if held := list(tasks):
        for task in held:
            task.cancel()
        await asyncio.wait(held)


def _log_crash(task: asyncio.Task[Any]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    if isinstance(error, StreamError):
        log.error("task %s failed: %s", task.get_name(), error, extra={"code": error.code})
    else:
        log.error("task %s crashed", task.get_name(), exc_info=error)
