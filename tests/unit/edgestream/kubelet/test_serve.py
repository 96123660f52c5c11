import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.render import error_answer
from edgestream.kubelet.serve import answer
from streamkit.errors import (
    ChannelReset,
    IncompleteAnswer,
    NodeNotConnected,
    RuntimeUnavailable,
    StreamError,
)
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead
from tests.support.exchange import MemoryExchange, ask

LIMIT = 5.0
TEXT = ("Content-Type", "text/plain; charset=utf-8")
REQUEST = RequestHead("POST", "/exec/ns/p/c?command=secret")


class Handler:
    """A ``KubeletHandler`` made of one function."""

    def __init__(self, function: Callable[[Exchange], Awaitable[None]]) -> None:
        self._function = function

    async def serve(self, exchange: Exchange) -> None:
        await self._function(exchange)

    async def close(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("error", "status", "headers", "body"),
    [
        (KubeletAnswer(500, "no\n"), 500, (TEXT, ("Content-Length", "3")), b"no\n"),
        (KubeletAnswer(400, "plain", headers=()), 400, (), b"plain"),
        (
            KubeletAnswer(429, "é", headers=(("Retry-After", "60"),)),
            429,
            (("Retry-After", "60"), ("Content-Length", "2")),
            "é".encode(),
        ),
        (KubeletAnswer(400, "\udcff"), 400, (TEXT, ("Content-Length", "1")), b"?"),
        (RuntimeUnavailable("gone"), 500, (TEXT, ("Content-Length", "4")), b"gone"),
        (NodeNotConnected("off"), 503, (TEXT, ("Content-Length", "3")), b"off"),
        (StreamError("odd"), 500, (TEXT, ("Content-Length", "3")), b"odd"),
    ],
)
def test_renders(error: StreamError, status: int, headers: Headers, body: bytes) -> None:
    assert error_answer(error) == (ResponseHead(status, headers), body)


async def test_an_error_before_the_head_is_an_answer() -> None:
    async def refuse(exchange: Exchange) -> None:
        raise KubeletAnswer(404, "pod does not exist")

    async with asyncio.timeout(LIMIT):
        head, body = await ask(Handler(refuse), REQUEST)
        assert (head.status, body) == (404, b"pod does not exist")
        head, body = await ask(Handler(refuse), RequestHead("HEAD", "/x"))
        assert (head.status, body) == (404, b"")
        assert ("Content-Length", "18") in head.headers


async def test_an_error_after_the_head_is_the_owners() -> None:
    async def break_off(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        raise ChannelReset("broke")

    exchange = MemoryExchange(REQUEST)
    with pytest.raises(ChannelReset, match="broke"):
        await answer(Handler(break_off), exchange)
    assert (await exchange.head()).status == 200


async def test_a_mistake_is_logged_without_payload(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(exchange: Exchange) -> None:
        raise ValueError("payload")

    with caplog.at_level(logging.DEBUG):
        async with asyncio.timeout(LIMIT):
            head, body = await ask(Handler(fail), REQUEST)
    assert (head.status, body) == (500, b"internal error")
    (line,) = caplog.messages
    assert line.startswith("POST /exec/ns/p/c: ValueError at ")
    assert "secret" not in caplog.text
    assert "payload" not in caplog.text


async def test_a_mistake_after_the_head_breaks_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(200))
        raise ValueError("payload")

    with pytest.raises(IncompleteAnswer, match="internal error"):
        await answer(Handler(fail), MemoryExchange(REQUEST))
    assert len(caplog.messages) == 1


async def test_cancelling_cancels_the_handler() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    exchange = MemoryExchange(REQUEST)
    async with asyncio.timeout(LIMIT):
        task = asyncio.create_task(answer(Handler(wait), exchange))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert cancelled.is_set()
    assert not exchange.has_head
