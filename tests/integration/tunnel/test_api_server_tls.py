"""TLS of the stream port, as API servers were seen to use it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.tunnel.test_end_to_end import get, read_head
from tests.support.cloud import Cloud, running_cloud


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with running_cloud(tmp_path / "pki") as running:
        yield running


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)],
)
async def test_http_1_is_agreed_on(
    cloud: Cloud, version: ssl.TLSVersion, offered: list[str], chosen: str | None
) -> None:
    context = cloud.client_context("apiserver-client")
    context.minimum_version = context.maximum_version = version
    if offered:
        context.set_alpn_protocols(offered)
    async with asyncio.timeout(10):
        # The name of the server is not sent where the node's address is an IP.
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", cloud.stream_port, ssl=context, server_hostname="127.0.0.1"
        )
    agreed: ssl.SSLObject = writer.get_extra_info("ssl_object")
    assert agreed.selected_alpn_protocol() == chosen
    writer.write(get("/healthz", "X-Forwarded-Uri: /api/v1/nodes/edge-9/proxy/healthz"))
    assert (await read_head(reader))[0] == 503
    writer.close()
