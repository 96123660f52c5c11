"""Waiting for a condition of this process."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], *, deadline: float = 10) -> None:
    """Wait for a condition of this process, looking again at every turn of the loop."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0.001)
