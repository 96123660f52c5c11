"""An edge agent that is stopped tells its callers so, over whichever of its tunnels they came."""

import asyncio
import contextlib
from pathlib import Path

import pytest

import edgestream.tunnel
from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.support.api_client import api_client
from tests.support.cloud import running_cloud
from tests.support.edge import connected_edge
from tests.support.wait import until


async def follow(exchange: Exchange) -> None:
    await exchange.send_head(ResponseHead(200))
    await exchange.write(b"a line\n")
    await asyncio.Event().wait()


@pytest.mark.parametrize("is_leaving", [False, True], ids=["its tunnel", "one it leaves"])
@pytest.mark.parametrize("library", ["picows", "websockets"])
async def test_a_followed_log_says_that_the_agent_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, library: str, is_leaving: bool
) -> None:
    monkeypatch.setattr(edgestream.tunnel, "has_picows", lambda: library == "picows")
    async with contextlib.AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(running_cloud(tmp_path / "pki"))
        client = await stack.enter_async_context(api_client(cloud))
        async with connected_edge(cloud, follow) as edge:
            client.send("GET", "/containerLogs/default/web/app?follow=true")
            await client.head()
            await client.reader.readuntil(b"a line")
            if is_leaving:
                cloud.service._tunnels.drain()
                await until(lambda: edge.session() is None)
        body = await client.rest()
    assert b"\nthe edge closed the tunnel: the edge agent shuts down [KS2001]\n" in body
