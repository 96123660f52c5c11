"""When a pause begins, and when it does not."""

import asyncio

from streamkit.session.reading import Reading
from tests.unit.streamkit.session.transport import Transport


async def test_a_pause_begins_with_the_next_turn_of_the_loop() -> None:
    transport = Transport()
    reading = Reading(transport)
    reading.pause()
    reading.pause()
    assert (reading.is_paused, transport.asked) == (True, [])
    await asyncio.sleep(0)
    assert transport.asked == ["pause"]
    reading.resume()
    assert (reading.is_paused, transport.asked) == (False, ["pause", "resume"])


async def test_a_pause_that_was_over_at_once_never_begins() -> None:
    transport = Transport()
    reading = Reading(transport)
    reading.pause()
    reading.resume()
    await asyncio.sleep(0)
    assert "pause" not in transport.asked


async def test_a_connection_that_closes_is_left_alone() -> None:
    transport = Transport()
    reading = Reading(transport)
    reading.pause()
    transport.close()
    await asyncio.sleep(0)
    reading.resume()
    assert transport.asked == []
