"""Which entries of the record are left over, by an API server and by who answers."""

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest

import cloudstream.kube.left_overs as module
from cloudstream.kube.left_overs import LeftOvers
from streamkit.errors import LookupFailed
from tests.support.clock import Clock, clock_of
from tests.support.kube import ScriptedKube
from tests.support.kube_server import KubeServer, kube_server

OWN, PEER, BESIDE, GONE = "127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"
"""Us and a pod that is not up; a cloud service that is no pod; one that is no more."""


def cloudcore(name: str, address: str, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "kubeedge", "labels": {"kubeedge": "cloudcore"}}
    found = {"phase": "Running", "podIP": address, "hostIP": address, **status}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c"}]}, "status": found}


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    other = cloudcore("other", GONE)
    other["metadata"]["labels"] = {"kubeedge": "iptables-manager"}
    pods = [
        cloudcore("own", OWN),
        cloudcore("peer", PEER, phase="Pending"),
        cloudcore("ended", GONE, phase="Failed"),
        other,
    ]
    async with kube_server(tmp_path, namespaces=["kubeedge"], pods=pods) as running:
        yield running


@pytest.fixture
async def stream_port() -> AsyncIterator[int]:
    """The port at which a cloud service answers that is no pod."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), BESIDE, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(module, monkeypatch)


async def among(left_overs: LeftOvers, *addresses: str, own: str = OWN) -> Collection[str]:
    async with asyncio.timeout(10):
        return await left_overs.among(addresses, own=own)


async def test_only_what_is_no_pod_and_silent_for_long_is_left_over(
    kube: KubeServer, stream_port: int, clock: Clock
) -> None:
    api = kube.api()
    left_overs = LeftOvers(api, stream_port=stream_port)
    assert await among(left_overs) == set()
    for seconds in (0, 100):
        clock.now += seconds
        assert await among(left_overs, PEER, BESIDE, GONE) == set()
    clock.now += 81
    assert await among(left_overs, PEER, BESIDE, GONE) == {GONE}
    await api.close()


async def test_who_answers_in_between_is_not_left_over(
    kube: KubeServer, stream_port: int, clock: Clock
) -> None:
    api = kube.api()
    left_overs = LeftOvers(api, stream_port=stream_port)
    await among(left_overs, GONE)
    clock.now += 100
    async with await asyncio.start_server(lambda _, writer: writer.close(), GONE, stream_port):
        assert await among(left_overs, GONE) == set()
    clock.now += 100
    assert await among(left_overs, GONE) == set()
    clock.now += 181
    assert await among(left_overs, GONE) == {GONE}
    await api.close()


async def test_outside_of_cloudcores_pods_nothing_is_known(
    kube: KubeServer, stream_port: int, clock: Clock
) -> None:
    api = kube.api()
    left_overs = LeftOvers(api, stream_port=stream_port)
    for _ in range(3):
        assert await among(left_overs, GONE, own="127.0.1.9") == set()
        clock.now += 200
    await api.close()


@pytest.mark.parametrize("answer", [LookupFailed("away"), {"kind": "PodList"}])
async def test_an_api_that_does_not_tell_is_a_failure(answer: Any) -> None:
    with pytest.raises(LookupFailed):
        await among(LeftOvers(ScriptedKube(lambda *_: answer), stream_port=1), GONE)
