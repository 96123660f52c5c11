import asyncio
import threading

import pytest

from edgestream.threads import Threads
from streamkit.errors import BackendError

LIMIT = 5.0


async def test_a_result_and_an_error_come_back() -> None:
    threads = Threads("counting", count=1, deadline=LIMIT)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    threads.close()
    threads.close()


async def test_the_event_loop_goes_on() -> None:
    threads = Threads("waiting", count=1, deadline=LIMIT)
    go_on = threading.Event()
    waiting = asyncio.create_task(threads.run(go_on.wait, LIMIT))
    await asyncio.sleep(0)
    go_on.set()
    assert await waiting
    threads.close()


async def test_what_hangs_is_given_up() -> None:
    threads = Threads("reading the disk", count=1, deadline=0.01)
    hang = threading.Event()
    for _ in range(2):  # the second one does not even begin
        with pytest.raises(BackendError, match=r"^reading the disk took more than 0\.01 s$"):
            await threads.run(hang.wait, LIMIT)
    hang.set()
    threads.close()
