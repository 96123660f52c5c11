"""Round trips are measured on a link that is empty: what a full one adds would make windows grow.

A session that resumes fills its link at once. Were it measured then, each resumption would double
the windows, and with them the time that everything else waits behind a bulk stream.
"""

from pathlib import Path

import pytest

from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from streamkit.wire.message import decode_header
from streamkit.wire.v2_message import Hello, V2Type, encode_hello
from tests.support.cloud import Cloud
from tests.support.frames import BINARY, PING, PONG
from tests.support.v2_peers import raw_cloud, raw_edge


async def empty(exchange: Exchange) -> None:
    await exchange.send_head(ResponseHead(200))


def is_hello(payload: bytes) -> bool:
    return decode_header(payload)[1] == V2Type.HELLO


@pytest.mark.usefixtures("library")
async def test_an_edge_pings_before_it_says_hello(tmp_path: Path) -> None:
    async with raw_cloud(tmp_path / "pki") as cloud, cloud.edge(empty):
        for _ in range(2):
            tunnel = await cloud.accept()
            first, second = await tunnel.next_frame(), await tunnel.next_frame()
            assert (first.opcode, second.opcode) == (PING, BINARY)
            assert is_hello(second.payload)
            tunnel.leave()


async def test_a_cloud_pings_before_it_is_greeted(cloud: Cloud) -> None:
    async with raw_edge(cloud) as edge:
        ping = await edge.next_frame()
        assert ping.opcode == PING
        edge.send_frame(PONG, ping.payload)
        edge.send_message(encode_hello(Hello("", 1 << 20, 30)))
        while (answer := await edge.next_frame()).opcode != BINARY:
            assert answer.opcode == PING
        assert is_hello(answer.payload)
