import asyncio
import contextlib
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cloudstream.kube.left_overs as left_overs_module
import cloudstream.kube.tunnel_port as module
from cloudstream.kube.api import JSON, ApiRefused, AsyncioKubeApi, JsonObject, KubeApi
from cloudstream.kube.left_overs import LeftOvers
from cloudstream.kube.port_record import ANNOTATION
from cloudstream.kube.tunnel_port import TunnelPort, default_address
from streamkit.errors import LookupFailed
from tests.support.kube_server import KubeServer, kube_server
from tests.support.wait import until

KEY = ("kubeedge", "tunnelport")
A, B, C = "10.2.0.12", "10.2.0.13", "10.2.0.14"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CONFLICT_PAUSE", "_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(module, name, 0.002)


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[KubeServer]:
    async with kube_server(tmp_path, namespaces=["default"]) as running:
        yield running


class FaultyApi:
    """The real client, with faults that a test puts in the way."""

    def __init__(self, api: AsyncioKubeApi) -> None:
        self._api = api
        self.watch, self.close = api.watch, api.close
        self.errors: list[Exception] = []
        self.writes: list[str] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Any = None,
        body: JsonObject | None = None,
        content_type: str = JSON,
    ) -> JsonObject:
        if method != "GET":
            self.writes.append(f"{method} {path}")
            if self.errors:
                raise self.errors.pop(0)
        return await self._api.request(
            method, path, query=query, body=body, content_type=content_type
        )


def tunnel_port(
    api: KubeApi, address: Callable[[], str], edges: Collection[str] = ()
) -> TunnelPort:
    left_overs = LeftOvers(api, stream_port=9)  # where nobody answers
    return TunnelPort(api, address=address, edge_addresses=lambda: edges, left_overs=left_overs)


@contextlib.asynccontextmanager
async def negotiating(
    kube: KubeServer, address: str, *, edges: set[str] | None = None, api: KubeApi | None = None
) -> AsyncIterator[TunnelPort]:
    """A cloud service at that address, once it has its port."""
    client = api or kube.api()
    port = tunnel_port(client, lambda: address, edges or set())
    task = asyncio.create_task(port.run())
    try:
        await until(lambda: port.status().pending == 0)
        yield port
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
        await client.close()


def put_record(kube: KubeServer, text: str | None) -> None:
    """As somebody else writes it; None leaves the annotation out."""
    annotations = {"other": "stays"} | ({} if text is None else {ANNOTATION: text})
    metadata = {"name": KEY[1], "namespace": KEY[0], "annotations": annotations}
    config_map = {"metadata": metadata, "data": {"own": "stays too"}}
    if KEY in kube.world.config_maps:
        kube.world.config_maps.replace(KEY, config_map)
    else:
        kube.world.config_maps.create(KEY[0], config_map)


def found_record(kube: KubeServer) -> Any:
    return json.loads(kube.world.config_maps.get(KEY)["metadata"]["annotations"][ANNOTATION])


def expected(**ports: int) -> Any:
    addresses = {"a": A, "b": B, "c": C}
    return {
        "ipTunnelPort": {addresses[name]: port for name, port in ports.items()},
        "port": {str(port): True for port in ports.values()},
    }


async def test_namespace_and_config_map_are_created_where_they_are_missing(
    kube: KubeServer,
) -> None:
    api = FaultyApi(kube.api())
    api.errors = [ApiRefused(404, "POST configmaps", 'namespaces "kubeedge" not found')]
    async with negotiating(kube, A, api=api) as port:
        assert port.port == 10351
        sentence = "the kubelet port is 10351, for 10.2.0.12 in the ConfigMap kubeedge/tunnelport"
        assert port.status().sentence == sentence
    assert found_record(kube) == expected(a=10351)
    assert ("", "kubeedge") in kube.world.namespaces
    maps = "POST /api/v1/namespaces/kubeedge/configmaps"
    assert api.writes == [maps, "POST /api/v1/namespaces", maps]


async def test_a_namespace_that_another_creates_meanwhile_is_no_fault(kube: KubeServer) -> None:
    api = FaultyApi(kube.api())
    api.errors = [ApiRefused(404, "POST configmaps"), ApiRefused(409, "POST namespaces")]
    async with negotiating(kube, A, api=api) as port:
        assert port.port == 10351


async def test_a_restart_keeps_the_port_and_writes_nothing(kube: KubeServer) -> None:
    async with negotiating(kube, A):
        pass
    version = kube.world.config_maps.get(KEY)["metadata"]["resourceVersion"]
    for _ in range(3):
        async with negotiating(kube, A) as port:
            assert port.port == 10351
    assert kube.world.config_maps.get(KEY)["metadata"]["resourceVersion"] == version


async def test_each_cloud_service_has_a_port_of_its_own(kube: KubeServer) -> None:
    async with (
        negotiating(kube, A) as first,
        negotiating(kube, B) as second,
        negotiating(kube, C) as third,
    ):
        ports = {first.port, second.port, third.port}
        assert ports == {10351, 10352, 10353}
        await until(lambda: first.is_foreign(10352) and first.is_foreign(10353))
        assert not first.is_foreign(10351)
        assert not third.is_foreign(10350)


async def test_all_that_start_together_agree(kube: KubeServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        addresses = [f"10.2.1.{number}" for number in range(1, 9)]
        services = await asyncio.gather(
            *(stack.enter_async_context(negotiating(kube, address)) for address in addresses)
        )
        ports = [service.port for service in services]
        assert sorted(port for port in ports if port) == list(range(10351, 10359))
        assert found_record(kube)["ipTunnelPort"] == dict(zip(addresses, ports, strict=True))


async def test_conflicts_and_failures_are_tried_again(kube: KubeServer) -> None:
    put_record(kube, json.dumps(expected(b=10351)))
    api = FaultyApi(kube.api())
    api.errors = [
        *[ApiRefused(409, "PUT")] * 12,
        LookupFailed("the API is away"),
        ApiRefused(403, "PUT"),
    ]
    async with negotiating(kube, A, api=api) as port:
        assert port.port == 10352
    assert found_record(kube) == expected(b=10351, a=10352)
    assert api.errors == []
    config_map = kube.world.config_maps.get(KEY)
    assert config_map["data"] == {"own": "stays too"}
    assert config_map["metadata"]["annotations"]["other"] == "stays"


@pytest.mark.parametrize("text", [None, "", "{", "[]"])
async def test_a_missing_or_broken_annotation_is_replaced(
    kube: KubeServer, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    put_record(kube, text)
    async with negotiating(kube, A):
        assert found_record(kube) == expected(a=10351)
    assert "it gets a new one" in caplog.text


async def test_what_can_be_read_of_a_broken_record_is_obeyed_and_the_rest_reported(
    kube: KubeServer, caplog: pytest.LogCaptureFixture
) -> None:
    put_record(kube, json.dumps({"ipTunnelPort": {B: 10351, C: "x"}, "port": None}))
    async with negotiating(kube, A) as port:
        assert port.port == 10352
        assert found_record(kube) == expected(b=10351, a=10352)
    assert f"ipTunnelPort has no port for '{C}'" in caplog.text


async def test_edge_nodes_in_the_record_are_reported_and_not_obeyed(
    kube: KubeServer, caplog: pytest.LogCaptureFixture
) -> None:
    guide = {
        "ipTunnelPort": {"192.168.1.16": 10350, "192.168.1.17": 10351},
        "port": {"10350": True, "10351": True},
    }
    put_record(kube, json.dumps(guide))
    async with negotiating(kube, A, edges={"192.168.1.16", "192.168.1.17"}) as port:
        assert port.port == 10352
        assert not port.is_foreign(10351)
        sentence = "its keys 192.168.1.16, 192.168.1.17 are edge nodes, and have to be cloud"
        assert sentence in port.status().sentence
    assert sentence in caplog.text


async def test_an_entry_that_somebody_removes_is_put_back_with_the_same_port(
    kube: KubeServer,
) -> None:
    async with negotiating(kube, A) as port:
        for text in (json.dumps(expected(b=10352) | {"port": {"10351": True}}), None, "x"):
            put_record(kube, text)
            await until(
                lambda: (
                    A
                    in (kube.world.config_maps.get(KEY)["metadata"])
                    .get("annotations", {})
                    .get(ANNOTATION, "")
                )
            )
            assert found_record(kube)["ipTunnelPort"][A] == 10351
        kube.world.config_maps.delete(KEY)
        await until(lambda: KEY in kube.world.config_maps)
        assert port.port == 10351


async def test_a_host_whose_address_changes_keeps_its_port(
    kube: KubeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [A]
    api = kube.api()
    port = tunnel_port(api, lambda: addresses[-1])
    task = asyncio.create_task(port.run())
    await until(lambda: port.port == 10351)
    addresses.append(B)
    port._woken.set()
    await until(lambda: found_record(kube) == expected(b=10351))
    task.cancel()
    await asyncio.wait([task])
    await api.close()


async def test_a_host_without_a_route_is_told(kube: KubeServer) -> None:
    api = kube.api()
    port = tunnel_port(api, lambda: "")
    task = asyncio.create_task(port.run())
    await until(lambda: "no default route" in port.status().sentence)
    assert (port.port, port.status().pending) == (None, 1)
    task.cancel()
    await asyncio.wait([task])
    await api.close()


async def test_the_port_is_kept_while_the_api_is_away(kube: KubeServer) -> None:
    async with negotiating(kube, A) as port:
        await kube.stop()
        port._woken.set()
        await until(lambda: port.status().pending == 1)
        assert "can't be reached" in port.status().sentence
        assert port.port == 10351
        await kube.start()
        await until(lambda: port.status().pending == 0)


def is_alone(kube: KubeServer, address: str) -> bool:
    return set(found_record(kube)["ipTunnelPort"]) == {address}


def is_told(caplog: pytest.LogCaptureFixture, sentence: str) -> bool:
    return sentence in caplog.text


async def test_pods_that_come_and_go_use_up_no_ports(
    kube: KubeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(left_overs_module, "_SILENCE", 0.05)
    monkeypatch.setattr(module, "_RECHECK", 0.02)
    labels = {"kubeedge": "cloudcore"}
    addresses = [f"127.0.2.{number}" for number in range(1, 6)]
    for before, address in zip((None, *addresses), addresses, strict=False):
        pod = {
            "metadata": {"name": "cloudcore", "namespace": "kubeedge", "labels": labels},
            "status": {"phase": "Running", "podIP": address},
        }
        kube.world._static["kubeedge", "cloudcore"] = pod
        async with negotiating(kube, address) as port:
            assert port.port in (10351, 10352)
            await until(partial(is_alone, kube, address))
            assert found_record(kube)["port"] == {str(port.port): True}
            if before:  # which is told once the record's writer has its answer
                told = f"took {before} out of the ConfigMap kubeedge/tunnelport"
                await until(partial(is_told, caplog, told))


def test_this_hosts_address_is_one() -> None:
    if address := default_address():
        assert not ipaddress.ip_address(address).is_unspecified
