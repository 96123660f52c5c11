"""An event loop in a thread, for what has to serve while a test waits for a program."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

DEADLINE = 30.0


class Background:
    """The loop, as the test's own thread uses it. Every call waits, ``DEADLINE`` s at most."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._contexts = AsyncExitStack()
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the work there and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter a context, which is left with the loop."""
        return self.run(self._contexts.enter_async_context(context))

    def call(self, function: Callable[[], T]) -> T:
        """Call a function there, where the loop's objects may be touched."""

        async def called() -> T:
            return function()

        return self.run(called())

    def close(self) -> None:
        """Leave all contexts, cancel what still runs, and end the thread."""
        self.run(self._contexts.aclose())
        self.run(_cancel_the_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


@contextmanager
def background() -> Iterator[Background]:
    """A loop for the length of the block."""
    loop = Background()
    try:
        yield loop
    finally:
        loop.close()
