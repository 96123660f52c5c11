import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from edgestream.cri import cri_pb2
from edgestream.kubelet.cri_backend import CriBackend
from streamkit.wire.exchange import header_values
from tests.support.node import SECOND, ScriptedNode
from tests.support.trees import APP_ID, IDLE_ID, MIB, POD_UID, SANDBOX_ID
from tests.unit.edgestream.kubelet.pages import DEADLINE, Pages, pages_of

CREATED = "2023-11-14T22:15:00Z"


@pytest.fixture(params=[1, 2])
def node(tmp_path: Path, request: pytest.FixtureRequest) -> ScriptedNode:
    node = ScriptedNode(tmp_path, cgroups=request.param)
    node.add_stats(APP_ID, cpu=1, working_set=1)
    images = cri_pb2.FilesystemUsage(timestamp=1_700_000_300 * SECOND)
    images.fs_id.mountpoint = str(tmp_path)
    images.used_bytes.value = 12345
    images.inodes_used.value = 67
    node.runtime.image_filesystems = [images]
    (node.pod_logs / "app").mkdir(parents=True)
    for name in ("0.log", "0.log.20240501-100000", "1.log"):
        (node.pod_logs / "app" / name).write_bytes(b"x" * 5000)
    return node


@pytest.fixture
async def pages(node: ScriptedNode, tmp_path: Path) -> AsyncIterator[Pages]:
    async with pages_of(node, tmp_path / "cri.sock") as pages:
        yield pages


def without_times(document: Any) -> Any:
    """The document without the times of looks, each of which is held to be one."""
    if isinstance(document, list):
        return [without_times(each) for each in document]
    if not isinstance(document, dict):
        return document
    if "time" in document:
        moment = datetime.strptime(document["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert moment.year > 2022
    return {key: without_times(value) for key, value in document.items() if key != "time"}


async def test_processors_and_memory(pages: Pages) -> None:
    document = await pages.get_json("/stats/summary?only_cpu_and_memory=true")
    node = document["node"]
    assert list(node) == ["nodeName", "startTime", "cpu", "memory"]
    assert (node["nodeName"], node["startTime"]) == ("edge-1", "2023-11-14T22:13:20Z")
    assert node["cpu"]["usageCoreNanoSeconds"] == 1000 * SECOND
    assert node["memory"]["usageBytes"] == 1024 * MIB
    assert node["memory"]["availableBytes"] == 8192 * MIB - node["memory"]["workingSetBytes"]
    (pod,) = document["pods"]
    assert list(pod) == ["podRef", "startTime", "containers", "cpu", "memory"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": POD_UID}
    app, idle = pod["containers"]
    assert without_times(app) == {
        "name": "app",
        "startTime": CREATED,
        "cpu": {"usageCoreNanoSeconds": 7_500_000_000},
        "memory": {
            "availableBytes": 58 * MIB,
            "usageBytes": 8 * MIB,
            "workingSetBytes": 6 * MIB,
            "rssBytes": 6000,
            "pageFaults": 111,
            "majorPageFaults": 22,
        },
    }
    assert app["cpu"]["time"] == app["memory"]["time"]
    assert "availableBytes" not in idle["memory"]
    assert list(app["memory"])[:2] == ["time", "availableBytes"]


async def test_everything(node: ScriptedNode, pages: Pages) -> None:
    document = await pages.get_json("/stats/summary")
    whole = document["node"]
    assert list(whole) == [
        "nodeName",
        "startTime",
        "cpu",
        "memory",
        "network",
        "fs",
        "runtime",
        "rlimit",
        "swap",
    ]
    network = without_times(whole["network"])
    assert network["name"] == "eth0"
    assert (network["rxBytes"], network["txErrors"]) == (2000, 3)
    assert [each["name"] for each in network["interfaces"]] == ["eth0", "wlan0"]
    assert list(whole["fs"]) == [
        "time",
        "availableBytes",
        "capacityBytes",
        "usedBytes",
        "inodesFree",
        "inodes",
        "inodesUsed",
    ]
    images = whole["runtime"]["imageFs"]
    assert whole["runtime"]["containerFs"] == images
    assert (images["time"], images["usedBytes"], images["inodesUsed"]) == (
        "2023-11-14T22:18:20Z",
        12345,
        67,
    )
    assert images["capacityBytes"] == whole["fs"]["capacityBytes"]
    assert without_times(whole["rlimit"]) == {"maxpid": 12345, "curproc": 345}
    assert without_times(whole["swap"]) == {
        "swapAvailableBytes": 512 * 1024,
        "swapUsageBytes": 1536 * 1024,
    }


async def test_everything_of_a_pod(pages: Pages) -> None:
    (pod,) = (await pages.get_json("/stats/summary"))["pods"]
    assert list(pod) == [
        "podRef",
        "startTime",
        "containers",
        "cpu",
        "memory",
        "network",
        "process_stats",
        "swap",
    ]
    assert without_times(pod["network"]["interfaces"]) == [
        {"name": "eth0", "rxBytes": 100, "rxErrors": 1, "txBytes": 200, "txErrors": 3}
    ]
    assert pod["process_stats"] == {"process_count": 4}
    app, idle = pod["containers"]
    assert list(app) == ["name", "startTime", "cpu", "memory", "rootfs", "logs", "swap"]
    assert (app["rootfs"]["time"], app["rootfs"]["usedBytes"]) == (CREATED, 4096)
    assert (app["rootfs"]["inodesUsed"], app["logs"]["inodesUsed"]) == (3, 3)
    assert 15_000 <= app["logs"]["usedBytes"] < 40_000
    assert app["logs"]["capacityBytes"] == app["rootfs"]["capacityBytes"]
    assert without_times(app["swap"]) == {"swapUsageBytes": 700}
    assert "rootfs" not in idle
    assert "usedBytes" not in idle["logs"]


async def test_the_form(pages: Pages) -> None:
    head, body = await pages.ask("/stats/summary")
    assert header_values(head.headers, "content-type") == ["application/json"]
    assert body.startswith(b'{\n "node": {\n  "nodeName": "edge-1",\n')
    assert body.endswith(b"\n ]\n}")
    assert (await pages.ask("/stats/summary", "POST"))[1].startswith(body[:40])


@pytest.mark.parametrize(
    ("query", "is_small"),
    [
        ("only_cpu_and_memory=true", True),
        ("only_cpu_and_memory=true&x=1", True),
        ("only_cpu_and_memory=true&only_cpu_and_memory=true", False),
        ("only_cpu_and_memory=1", False),
        ("only_cpu_and_memory=True", False),
        ("only_cpu_and_memory", False),
    ],
)
async def test_only_one_word_makes_it_small(pages: Pages, query: str, is_small: bool) -> None:
    document = await pages.get_json(f"/stats/summary?{query}")
    assert ("fs" not in document["node"]) == is_small


async def test_no_pods(node: ScriptedNode, pages: Pages) -> None:
    node.runtime.containers.clear()
    assert (await pages.get_json("/stats/summary"))["pods"] == []


async def test_a_node_without_the_usual_interface(node: ScriptedNode, pages: Pages) -> None:
    (node.facts.proc_root / "1" / "net" / "dev").unlink()
    whole = (await pages.get_json("/stats/summary"))["node"]
    assert without_times(whole["network"]) == {"name": ""}


async def test_a_pod_on_the_hosts_network(node: ScriptedNode, pages: Pages) -> None:
    status = node.runtime.sandbox_statuses[SANDBOX_ID].status
    status.linux.namespaces.options.network = cri_pb2.NODE
    (pod,) = (await pages.get_json("/stats/summary"))["pods"]
    assert "network" not in pod


async def test_a_runtime_that_can_not_list_statistics(node: ScriptedNode, pages: Pages) -> None:
    node.runtime.refusals["ListContainerStats"] = grpc.StatusCode.UNKNOWN, "one bad container"
    (pod,) = (await pages.get_json("/stats/summary"))["pods"]
    assert [each["name"] for each in pod["containers"]] == ["app", "idle"]
    assert all("rootfs" not in each for each in pod["containers"])
    assert pod["containers"][0]["cpu"]["usageCoreNanoSeconds"] == 7_500_000_000


async def test_what_is_not_known_is_left_out(node: ScriptedNode, pages: Pages) -> None:
    node.set_pid(IDLE_ID, 1)
    (pod,) = (await pages.get_json("/stats/summary?only_cpu_and_memory=true"))["pods"]
    assert pod["containers"][1] == {"name": "idle", "startTime": CREATED}


async def test_failures(node: ScriptedNode, pages: Pages, tmp_path: Path) -> None:
    node.runtime.refusals["ImageFsInfo"] = grpc.StatusCode.UNKNOWN, "no images"
    head, body = await pages.ask("/stats/summary")
    assert head.status == 500
    assert body == b"Internal Error: rpc error: code = Unknown desc = no images"
    backend = CriBackend(
        str(tmp_path / "none"), call_deadline=DEADLINE, dial_deadline=DEADLINE, node=node.facts
    )
    head, body = await Pages(backend).ask("/stats/summary")
    await backend.close()
    assert head.status == 500
    assert body.startswith(b"Internal Error: the container runtime can't be reached on ")


@pytest.mark.parametrize(
    ("method", "target", "accept", "status", "body"),
    [
        ("GET", "/stats/container", "*/*", 404, "404: Page Not Found"),
        ("GET", "/stats", "*/*", 404, "404: Page Not Found"),
        ("PUT", "/stats/summary", "*/*", 405, "405: Method Not Allowed"),
        (
            "GET",
            "/stats/summary",
            "text/html, application/*",
            406,
            "406: Not Acceptable\n\nAvailable representations: application/json",
        ),
    ],
)
async def test_refusals(
    pages: Pages, method: str, target: str, accept: str, status: int, body: str
) -> None:
    head, text = await pages.ask(target, method, (("Accept", accept),))
    assert (head.status, text.decode()) == (status, body)


@pytest.mark.parametrize("accept", ["application/json", "text/html;q=0.9, */*;q=0.1"])
async def test_json_is_what_is_wanted(pages: Pages, accept: str) -> None:
    head, body = await pages.ask("/stats/summary", headers=(("Accept", accept),))
    assert head.status == 200
    assert json.loads(body)["pods"]
