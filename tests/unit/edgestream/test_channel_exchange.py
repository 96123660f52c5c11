import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edgestream.channel_exchange import MAX_READ, ChannelExchange
from streamkit.errors import ChannelReset, LocalProtocolError, TunnelClosed
from streamkit.session.channel import HIGH_WATER
from streamkit.wire.exchange import ResponseHead
from tests.unit.edgestream.channels import DATA, LIMIT, REMOVE, opened_exchange

SWITCH = ResponseHead(101, (("Connection", "Upgrade"),))
RAW_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"


async def turns() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_is_sent_in_order_and_ended_once() -> None:
    cloud, exchange = opened_exchange()
    assert exchange.request.target == "/x"
    await exchange.send_head(SWITCH)
    await exchange.write(b"one")
    await exchange.write(b"")
    await exchange.write(b"two")
    await exchange.end()
    await exchange.end()
    assert cloud.receive() == [(1, DATA, RAW_SWITCH + b"onetwo"), (1, REMOVE, b"")]


async def test_an_answer_has_one_head() -> None:
    _, exchange = opened_exchange()
    await exchange.send_head(SWITCH)
    with pytest.raises(LocalProtocolError):
        await exchange.send_head(SWITCH)
    with pytest.raises(LocalProtocolError):
        exchange.head_received(SWITCH)


async def test_reading_waits_for_the_callers_bytes() -> None:
    cloud, exchange = opened_exchange()
    reading = asyncio.ensure_future(exchange.read())
    await turns()
    assert not reading.done()
    cloud.send(b"typed")
    async with asyncio.timeout(5):
        assert await reading == b"typed"


async def test_a_large_message_is_read_in_parts_and_makes_room_for_more() -> None:
    cloud, exchange = opened_exchange()
    data = bytes(range(256)) * (LIMIT // 256)
    for _ in range(3):
        cloud.send(data)
        received = b""
        async with asyncio.timeout(5):
            while len(received) < len(data):
                piece = await exchange.read()
                assert 0 < len(piece) <= MAX_READ
                received += piece
        assert received == data
    assert cloud.receive() == []


async def test_the_end_of_the_caller_is_read_for_good() -> None:
    cloud, exchange = opened_exchange()
    cloud.send(b"last")
    exchange.end_received()
    async with asyncio.timeout(5):
        assert [await exchange.read() for _ in range(3)] == [b"last", b"", b""]


async def test_nothing_is_to_be_read_behind_the_own_end() -> None:
    _, exchange = opened_exchange()
    await exchange.end()
    async with asyncio.timeout(5):
        assert await exchange.read() == b""


async def test_writing_waits_while_the_queue_is_long() -> None:
    cloud, exchange = opened_exchange()
    await exchange.send_head(SWITCH)
    writing = asyncio.ensure_future(exchange.write(bytes(HIGH_WATER + 1)))
    await turns()
    assert not writing.done()
    size = sum(len(data) for _, _, data in cloud.receive())
    assert size == len(RAW_SWITCH) + HIGH_WATER + 1
    async with asyncio.timeout(5):
        await writing


async def test_a_cancelled_write_is_queued_once() -> None:
    cloud, exchange = opened_exchange()
    await exchange.send_head(SWITCH)
    writing = asyncio.ensure_future(exchange.write(bytes(HIGH_WATER)))
    await turns()
    writing.cancel()
    await turns()
    assert writing.cancelled()
    size = sum(len(data) for _, _, data in cloud.receive())
    assert size == len(RAW_SWITCH) + HIGH_WATER
    async with asyncio.timeout(5):
        await exchange.write(b"on")
    assert cloud.receive() == [(1, DATA, b"on")]


async def read(exchange: ChannelExchange) -> None:
    await exchange.read()


async def write(exchange: ChannelExchange) -> None:
    await exchange.write(bytes(HIGH_WATER + 1))


@pytest.mark.parametrize("wait", [read, write])
async def test_a_lost_channel_ends_its_owners_wait_and_refuses_more(
    wait: Callable[[ChannelExchange], Coroutine[Any, Any, None]],
) -> None:
    cloud, exchange = opened_exchange()
    await exchange.send_head(SWITCH)
    owner = asyncio.create_task(wait(exchange))
    exchange.owned_by(owner)
    await turns()
    cloud.session.close(TunnelClosed("the link broke"))
    async with asyncio.timeout(5):
        await asyncio.wait((owner,))
        assert owner.cancelled()
        for again in (read, write):
            with pytest.raises(ChannelReset, match="the link broke"):
                await again(exchange)


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("is_late", [False, True])
async def test_the_answering_task_is_cancelled_with_its_channel(is_late: bool) -> None:
    cloud, exchange = opened_exchange()
    task = asyncio.ensure_future(wait_for_ever())
    if not is_late:
        exchange.owned_by(task)
    cloud.send(kind=REMOVE)
    if is_late:
        exchange.owned_by(task)
    async with asyncio.timeout(5):
        await asyncio.wait((task,))
    assert task.cancelled()
