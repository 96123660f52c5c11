import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

import edgestream.connector as connector_module
from edgestream.config import Backoff
from edgestream.connector import Connector, RedialDelays
from edgestream.service import EdgeSessions
from edgestream.serving import ChannelServer
from edgestream.tunnel import TunnelOptions, local_address
from streamkit.errors import (
    DialFailed,
    HandshakeRejected,
    HeartbeatTimeout,
    NodeIdentityMismatch,
    StreamError,
    TunnelClosed,
    TunnelLost,
    TunnelReplaced,
    UntrustedPeer,
)
from tests.support.edge import ScriptedKubelet, until

OPTIONS = TunnelOptions(
    server="127.0.0.1:1",
    server_name="",
    node_name="edge-1",
    node_ip="10.0.0.1",
    handshake=5,
    heartbeat=5,
    silence=15,
    write=15,
    close=5,
    max_message=1 << 20,
)


def longest(low: float, high: float) -> float:
    assert low == high / 2
    return high


@pytest.mark.parametrize(
    "error", [DialFailed("x"), TunnelLost("x"), TunnelClosed("x"), HeartbeatTimeout("x")]
)
def test_delays_grow_up_to_the_maximum_and_begin_anew(error: StreamError) -> None:
    delays = RedialDelays(Backoff(initial=1, maximum=5), uniform=longest)
    series = [delays.after(error) for _ in range(8)]
    assert series[0] == 1
    assert all(1 < later / earlier <= 2 for earlier, later in pairwise(series[:4]))
    assert series[-2:] == [5, 5]
    delays.reset()
    assert delays.after(error) == 1


@pytest.mark.parametrize(
    "error", [HandshakeRejected("x"), NodeIdentityMismatch("x"), TunnelReplaced("x")]
)
def test_a_refusal_waits_the_longest_at_once(error: StreamError) -> None:
    delays = RedialDelays(Backoff(initial=1, maximum=5), uniform=longest)
    assert [delays.after(error), delays.after(TunnelLost("x"))] == [5, 5]


def test_a_delay_is_drawn_between_half_and_all_of_its_step() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    delays = RedialDelays(Backoff(initial=1, maximum=5), uniform=uniform)
    assert delays.after(DialFailed("x")) == 0.5
    assert drawn == [(0.5, 1)]


@contextlib.asynccontextmanager
async def connecting(dialled: list[StreamError], made: list[str]) -> AsyncIterator[None]:
    """A connector that fails to dial in these ways, and then for ever in the last one."""

    async def dial(options: TunnelOptions, context: ssl.SSLContext, *, session_token: str) -> None:
        made.append(session_token)
        raise dialled[min(len(made), len(dialled)) - 1]

    server = ChannelServer(ScriptedKubelet(lambda exchange: asyncio.sleep(0)), max_channels=1)
    connector = Connector(
        OPTIONS,
        ssl.create_default_context(),
        EdgeSessions(server, buffer_limit=1, resume_timeout=1),
        Backoff(initial=0.001, maximum=0.002),
        resume_timeout=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connector_module, "dial", dial)
        task = asyncio.create_task(connector.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,), timeout=5)
            assert task.cancelled()


async def test_no_failure_to_dial_ends_it_and_each_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[StreamError] = [
        DialFailed("the cloud at x can't be reached: refused"),
        UntrustedPeer("the certificate of the cloud at x is not trusted: expired"),
        HandshakeRejected("the cloud at x refused this node: 403"),
        DialFailed("again"),
    ]
    tokens: list[str] = []
    async with connecting(errors, tokens):
        await until(lambda: len(tokens) > 5)
    assert set(tokens) == {""}
    lines = [record.getMessage() for record in caplog.records]
    for number, error in enumerate(errors):
        expected = (
            rf"{re.escape(str(error))} \[{error.code}\]; attempt {number + 2} follows in 0.0 s"
        )
        assert re.fullmatch(expected, lines[number])


def test_the_own_address_is_that_of_the_route_to_the_cloud() -> None:
    assert local_address("127.0.0.1:10004") == "127.0.0.1"
    assert local_address("[::1]:10004") == "::1"
    assert local_address("256.0.0.1:1") == ""
    assert local_address("nonsense") == ""
