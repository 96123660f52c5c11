"""The cloud goes away for long, with many agents: all come back soon, and not all at once.

``TUNNEL_AGENTS`` is how many, 100 unless told otherwise, and ``TUNNEL_AWAY_SECONDS`` for how long,
15 unless told otherwise. Agents wait as long between their attempts as they do by default.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cloudstream.config import CloudSettings
from edgestream.config import Backoff
from edgestream.kubelet.exchange import Exchange
from streamkit.pki.issue import issue_all
from streamkit.wire.exchange import ResponseHead
from tests.support.api_client import api_client
from tests.support.cloud import running_cloud
from tests.support.edge import connected_edge
from tests.support.wait import until

AGENTS = int(os.environ.get("TUNNEL_AGENTS", "100"))
AWAY = float(os.environ.get("TUNNEL_AWAY_SECONDS", "15"))
BACK = 30.0
"""Seconds within which every agent is back."""
AT_ONCE = 1 / 3
"""Of the agents, this part at most may come within the first second."""

pytestmark = pytest.mark.timeout(120 + AWAY)


async def own_name(exchange: Exchange) -> None:
    await exchange.send_head(ResponseHead(200))
    await exchange.write(exchange.request.target.encode())


async def test_agents_come_back_soon_and_not_all_at_once(tmp_path: Path) -> None:
    pki, settings = tmp_path / "pki", CloudSettings(bind_address="127.0.0.1")
    nodes = [f"node-{number}" for number in range(AGENTS)]
    issue_all(pki, nodes=nodes)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as agents:
        async with running_cloud(pki, settings) as cloud:
            port = cloud.tunnel_port
            for node in nodes:
                await agents.enter_async_context(
                    connected_edge(cloud, own_name, node=node, backoff=Backoff())
                )
        gone = loop.time()
        await until(lambda: loop.time() > gone + AWAY, deadline=AWAY + 10)
        async with running_cloud(pki, settings, tunnel_port=port) as again:
            returned, seconds = loop.time(), [0]
            while (found := len(again.service.registry)) < AGENTS:
                assert loop.time() < returned + BACK, f"{found} of {AGENTS} are back"
                await asyncio.sleep(0.01)
                passed = int(loop.time() - returned)
                seconds += [0] * (passed + 1 - len(seconds))
                seconds[-1] += len(again.service.registry) - found
            took = loop.time() - returned
            sys.stdout.write(f"{AGENTS} agents back within {took:.1f} s; each second: {seconds}\n")
            assert seconds[0] <= AGENTS * AT_ONCE
            async with api_client(again) as client:
                for node in nodes[:: AGENTS // 10 or 1]:
                    proxied = f"X-Forwarded-Uri: /api/v1/nodes/{node}/proxy/{node}"
                    assert (await client.get(f"/{node}", proxied)).body == f"/{node}".encode()
