import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from edgestream.kubelet.exchange import Exchange
from edgestream.serving import ChannelServer
from streamkit.errors import LogUnavailable, TunnelClosed
from streamkit.wire.exchange import ResponseHead
from tests.support.edge import ScriptedKubelet, until
from tests.unit.edgestream.channels import REMOVE, CloudSide


@contextlib.asynccontextmanager
async def serving(
    serve: Callable[[Exchange], Awaitable[None]], *, max_channels: int = 100
) -> AsyncIterator[tuple[CloudSide, ScriptedKubelet]]:
    kubelet = ScriptedKubelet(serve)
    server = ChannelServer(kubelet, max_channels=max_channels)
    task = asyncio.create_task(server.run())
    await asyncio.sleep(0)
    try:
        yield CloudSide(server.accept), kubelet
    finally:
        task.cancel()
        await asyncio.wait((task,), timeout=10)


async def text(cloud: CloudSide, channel_id: int = 1) -> bytes:
    """All data of a channel up to its RemoveConnect."""
    found = b""
    async with asyncio.timeout(10):
        while True:
            for each, kind, data in cloud.receive():
                if each == channel_id and kind == REMOVE:
                    return found
                found += data if each == channel_id else b""
            await asyncio.sleep(0)


async def test_a_handlers_answer_is_ended_for_it() -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200, (("Content-Length", "2"),)))
        await exchange.write(b"ok")

    async with serving(serve) as (cloud, _):
        cloud.open()
        assert (await text(cloud)).endswith(b"\r\n\r\nok")


async def test_an_error_before_the_head_is_an_answer_and_behind_it_a_break() -> None:
    async def serve(exchange: Exchange) -> None:
        if exchange.request.path == "/late":
            await exchange.send_head(ResponseHead(200))
            await exchange.write(b"one")
        raise LogUnavailable("the disk is gone")

    async with serving(serve) as (cloud, _):
        early, late = cloud.open("/early"), cloud.open("/late")
        answer = await text(cloud, early)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"the disk is gone")
        cloud.open("/late")
        assert (await text(cloud, late + 1)).endswith(b"\r\n\r\n3\r\none\r\n")


async def test_a_handler_that_crashes_costs_its_own_channel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def serve(exchange: Exchange) -> None:
        if exchange.request.path == "/crash":
            raise ZeroDivisionError
        await exchange.send_head(ResponseHead(204))

    async with serving(serve) as (cloud, kubelet):
        assert b" 500 " in await text(cloud, cloud.open("/crash"))
        assert b" 204 " in await text(cloud, cloud.open("/well"))
        await until(lambda: kubelet.live == 0)
    assert len(caplog.records) == 1


async def test_a_node_takes_no_more_than_it_may() -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await exchange.read()

    async with serving(serve, max_channels=2) as (cloud, kubelet):
        first, _ = cloud.open(), cloud.open()
        await until(lambda: kubelet.live == 2)
        answer = await text(cloud, cloud.open())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"this node already answers 2 requests")
        cloud.send(kind=REMOVE, channel_id=first)
        await until(lambda: kubelet.live == 1)
        cloud.open()
        await until(lambda: kubelet.live == 2)


async def test_callers_that_leave_and_lost_tunnels_end_the_handlers() -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        await asyncio.Event().wait()

    async with serving(serve) as (cloud, kubelet):
        for _ in range(3):
            cloud.open()
        await until(lambda: kubelet.live == 3)
        cloud.send(kind=REMOVE, channel_id=2)
        await until(lambda: kubelet.live == 2)
        cloud.session.close(TunnelClosed("the link broke"))
        await until(lambda: kubelet.live == 0)
        assert cloud.session.channel_count == 0


async def test_a_caller_that_leaves_at_once_leaves_nothing_behind() -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))

    async with serving(serve) as (cloud, kubelet):
        channel_id = cloud.open()
        cloud.send(kind=REMOVE, channel_id=channel_id)
        assert cloud.receive() == [(channel_id, REMOVE, b"")]
        assert b" 200 " in await text(cloud, cloud.open())
        assert kubelet.live == 0


async def test_shutting_down_ends_the_handlers_and_says_so() -> None:
    async def serve(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with serving(serve) as (cloud, kubelet):
        cloud.open()
        await until(lambda: kubelet.live == 1)
    assert kubelet.live == 0
    assert [kind for _, kind, _ in cloud.receive()] == [REMOVE]


async def test_nothing_is_accepted_before_it_runs() -> None:
    server = ChannelServer(ScriptedKubelet(lambda exchange: asyncio.sleep(0)), max_channels=1)
    cloud = CloudSide(server.accept)
    channel_id = cloud.open()
    assert cloud.receive() == [(channel_id, REMOVE, b"")]
