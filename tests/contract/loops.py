"""Both event loops that the cloud runs on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

on_both_loops = pytest.mark.parametrize(
    "loop_factory",
    [asyncio.new_event_loop, uvloop.new_event_loop],
    ids=["asyncio", "uvloop"],
)


def run(
    loop_factory: LoopFactory, work: Coroutine[Any, Any, None], *, deadline: float = 20
) -> None:
    """Run the work to its end in a loop of that kind."""

    async def bounded() -> None:
        async with asyncio.timeout(deadline):
            await work

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(bounded())
