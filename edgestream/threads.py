"""Threads for files that may be slow."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from streamkit.errors import BackendError

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A few threads of its owner's own: whatever hangs in them holds up nobody else.

    ``name`` says in errors what is done here, ``deadline`` is in seconds and for one call.
    """

    def __init__(self, name: str, *, count: int, deadline: float) -> None:
        self._name = name
        self._deadline = deadline
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name.replace(" ", "-"))

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns or raises; BackendError if it takes too long.

        Cancelling leaves the function alone if it runs already.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline):
                return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))
        except TimeoutError as error:
            raise BackendError(
                f"{self._name} took more than {self._deadline:g} s",
                hint="check the node's disks and network filesystems",
            ) from error

    def close(self) -> None:
        """Start nothing any more; what runs is not waited for. Idempotent."""
        self._pool.shutdown(wait=False, cancel_futures=True)
