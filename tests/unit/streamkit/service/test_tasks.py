"""Tasks that are owned, named and heard of."""

import asyncio
import logging
from typing import Any

import pytest

from streamkit.errors import TunnelClosed
from streamkit.service.tasks import cancel_all, spawn


async def fail(error: Exception) -> None:
    raise error


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_set_holds_its_tasks_until_they_end() -> None:
    tasks: set[asyncio.Task[Any]] = set()
    go = asyncio.Event()
    task = spawn(go.wait(), name="waiter", owner=tasks)
    assert tasks == {task}
    assert task.get_name() == "waiter"
    go.set()
    async with asyncio.timeout(5):
        assert await task is True
    assert tasks == set()


async def test_a_crash_is_one_line_and_reaches_whoever_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = spawn(fail(ValueError("boom")), name="pump 7", owner=set())
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="boom"):
            await task
    (record,) = caplog.records
    assert record.getMessage() == "task pump 7 crashed"
    assert record.exc_info
    assert record.levelno == logging.ERROR


async def test_a_fault_of_ours_is_told_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    task = spawn(fail(TunnelClosed("the tunnel of n1 ended")), name="pump", owner=set())
    async with asyncio.timeout(5):
        await asyncio.wait([task])
    (record,) = caplog.records
    assert record.getMessage() == "task pump failed: the tunnel of n1 ended"
    assert vars(record)["code"] == "KS2001"
    assert not record.exc_info


async def test_being_cancelled_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    tasks: set[asyncio.Task[Any]] = set()
    task = spawn(wait_for_ever(), name="waiter", owner=tasks)
    task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([task])
    assert task.cancelled()
    assert caplog.records == []
    assert tasks == set()


async def test_a_group_gets_named_tasks_and_their_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = []

    async def run_both() -> None:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            tasks.append(spawn(wait_for_ever(), name="waiter", owner=group))
            tasks.append(spawn(fail(ValueError("boom")), name="failing", owner=group))

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()
    assert [str(error) for error in caught.value.exceptions] == ["boom"]
    assert [task.get_name() for task in tasks] == ["waiter", "failing"]
    assert tasks[0].cancelled()
    assert caplog.records == []


async def test_a_group_that_has_ended_takes_no_more_and_no_coroutine_is_left() -> None:
    async with asyncio.TaskGroup() as group:
        pass
    with pytest.raises(RuntimeError, match="is finished"):
        spawn(wait_for_ever(), name="late", owner=group)


async def test_all_that_is_held_is_cancelled_and_waited_for() -> None:
    tasks: set[asyncio.Task[Any]] = set()
    started = [spawn(wait_for_ever(), name=f"waiter {number}", owner=tasks) for number in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel_all(tasks)
        await cancel_all(tasks)
    assert all(task.cancelled() for task in started)
    assert tasks == set()
