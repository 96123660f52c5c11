"""Waiting for conditions, of this process and of others."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool], *, deadline: float = 10) -> None:
    """Wait for a condition of this process, looking again at every turn of the loop."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0.001)


def eventually(
    condition: Callable[[], bool], *, deadline: float = 30, told: Callable[[], str] = str
) -> None:
    """Wait for a condition of other processes; ``told`` may tell why it never comes."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.05)
