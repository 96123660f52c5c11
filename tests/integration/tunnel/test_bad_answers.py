"""Whatever goes wrong at an edge, the API server gets what its user can read.

The API server shows the text of 400, 403, 500 and 502 (by its node proxy not that of 400), and that
of a Status object on all but logs; it swallows the rest.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloudstream.config import CloudDeadlines, CloudSettings
from edgestream.answers import KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from streamkit.errors import RuntimeUnavailable
from streamkit.wire.exchange import ResponseHead
from tests.integration.tunnel.test_end_to_end import get, read_body, read_head, upgrade
from tests.support.cloud import Cloud, running_cloud
from tests.support.edge import connected_edge

WHY = "the reason, Grüße, 离线"
REQUESTS = {
    "logs": get("/containerLogs/default/pod/c"),
    "exec": upgrade("/exec/default/pod/c?command=x&output=1"),
    "port-forward": upgrade("/portForward/default/pod"),
    "proxy": get("/stats/summary", "X-Forwarded-Uri: /api/v1/nodes/edge-1/proxy/stats/summary"),
}
CODES = (400, 401, 403, 404, 405, 408, 429, 500, 502, 503, 504)
SHOWN = {"logs": (400, 403, 500, 502), "proxy": (403, 500, 502)}


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    deadlines = CloudDeadlines(open=1.0, reconnect=0.1)
    settings = CloudSettings(bind_address="127.0.0.1", deadlines=deadlines)
    async with running_cloud(tmp_path / "pki", settings) as running:
        yield running


async def ask(cloud: Cloud, kind: str) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await cloud.connect()
    writer.write(REQUESTS[kind])
    status, headers = await read_head(reader)
    body = await read_body(reader, headers)
    writer.close()
    return status, headers, body


def check_readable(kind: str, status: int, headers: dict[str, str], body: bytes) -> str:
    """The sentence, which has to be in a shape that reaches the user."""
    assert "retry-after" not in headers  # kubectl would repeat ten times before it tells
    if headers["content-type"].startswith("application/json"):
        assert kind != "logs"
        told = json.loads(body)
        assert (told["kind"], told["status"], told["code"]) == ("Status", "Failure", status)
        assert told["reason"]
        return str(told["message"])
    assert status in SHOWN.get(kind, SHOWN["logs"])
    return body.decode()


@pytest.mark.parametrize("kind", REQUESTS)
async def test_refusals_of_any_status(cloud: Cloud, kind: str) -> None:
    codes = iter(CODES)

    async def serve(exchange: Exchange) -> None:
        headers = (("Content-Type", "text/plain; charset=utf-8"), ("Retry-After", "1"))
        code = next(codes)
        raise KubeletAnswer(code, WHY, headers=headers if code in (429, 503) else headers[:1])

    async with connected_edge(cloud, serve):
        for code in CODES:
            status, headers, body = await ask(cloud, kind)
            assert WHY in check_readable(kind, status, headers, body), code


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_fault_of_the_runtime(cloud: Cloud, kind: str) -> None:
    async def serve(exchange: Exchange) -> None:
        raise RuntimeUnavailable("the container runtime does not answer")

    async with connected_edge(cloud, serve):
        told = check_readable(kind, *await ask(cloud, kind))
    assert "the container runtime does not answer" in told


@pytest.mark.parametrize("kind", REQUESTS)
async def test_an_edge_that_never_answers(cloud: Cloud, kind: str) -> None:
    async def serve(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with connected_edge(cloud, serve):
        told = check_readable(kind, *await ask(cloud, kind))
    assert "the edge did not answer within 1 s" in told


@pytest.mark.parametrize("kind", REQUESTS)
async def test_an_edge_that_is_not_there(cloud: Cloud, kind: str) -> None:
    told = check_readable(kind, *await ask(cloud, kind))
    assert "KS40" in told


@pytest.mark.parametrize("kind", REQUESTS)
async def test_an_edge_that_dies_before_it_answers(cloud: Cloud, kind: str) -> None:
    asked = asyncio.Event()

    async def serve(exchange: Exchange) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with connected_edge(cloud, serve):
        answer = asyncio.create_task(ask(cloud, kind))
        async with asyncio.timeout(10):
            await asked.wait()
    assert "the edge closed the tunnel" in check_readable(kind, *await answer)


@pytest.mark.parametrize("status", [200, 302])
async def test_an_upgrade_that_is_answered_otherwise(cloud: Cloud, status: int) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send_head(ResponseHead(status, (("Content-Length", "5"),)))
        await exchange.write(b"plain")

    async with connected_edge(cloud, serve):
        told, _, body = await ask(cloud, "exec")
    assert (told, body) == (status, b"plain")
