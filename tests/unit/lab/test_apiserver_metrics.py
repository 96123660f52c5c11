"""What the metrics API makes of a node's page."""

from collections.abc import AsyncIterator

import pytest

from lab.apiserver.metrics import NODE, parse_page, usage
from tests.unit.lab.apiserver_kit import (
    TOKEN,
    Exchange,
    FakeKubelet,
    Keys,
    RestClient,
    api_server,
    edge_config,
    fake_kubelet,
    rest_client,
)

API = "/apis/metrics.k8s.io/v1beta1"
APP = ("default", "single", "app")
LABELS = 'container="app",namespace="default",pod="single"'


def page(cpu: float, moment: int, *, memory: float = 1048576, more: str = "") -> str:
    return (
        "# TYPE node_cpu_usage_seconds_total counter\n"
        f"node_cpu_usage_seconds_total {cpu * 2} {moment}\n"
        "# TYPE node_memory_working_set_bytes gauge\n"
        f"node_memory_working_set_bytes 1e+09 {moment}\n"
        "# TYPE container_cpu_usage_seconds_total counter\n"
        f"container_cpu_usage_seconds_total{{{LABELS}}} {cpu} {moment}\n"
        "# TYPE container_memory_working_set_bytes gauge\n"
        f"container_memory_working_set_bytes{{{LABELS}}} {memory} {moment}\n"
        "# TYPE container_start_time_seconds gauge\n"
        f"container_start_time_seconds{{{LABELS}}} 1.7e+09\n"
        f"{more}"
    )


def test_a_page_is_read() -> None:
    points = parse_page(page(3.5, 1_700_000_000_500), now=1.0)
    assert set(points) == {NODE, APP}
    assert points[APP].cpu_seconds == 3.5
    assert points[APP].memory_bytes == 1048576
    assert points[APP].at == 1_700_000_000.5
    assert points[NODE].cpu_seconds == 7.0


def test_a_line_without_a_time_is_of_now() -> None:
    points = parse_page(
        "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total 1\n", now=5.0
    )
    assert points[NODE].at == 5.0


def test_usage_is_the_slope_between_two_looks() -> None:
    earlier, later = parse_page(page(1.0, 1000), 0), parse_page(page(1.5, 3000), 0)
    assert usage(earlier, later, APP) == {"cpu": "250000000n", "memory": "1024Ki"}


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (page(1.0, 1000), page(1.5, 1000)),
        (page(2.0, 1000), page(1.5, 3000)),
        (page(0.0, 1000), page(0.0, 3000)),
        (page(1.0, 1000), page(1.5, 3000, memory=0)),
        ("", page(1.5, 3000)),
    ],
)
def test_there_is_no_usage_without_two_good_looks(earlier: str, later: str) -> None:
    assert usage(parse_page(earlier, 0), parse_page(later, 0), APP) is None


@pytest.fixture
async def kubelet(keys: Keys) -> AsyncIterator[FakeKubelet]:
    looks = 0

    async def answer(exchange: Exchange) -> None:
        nonlocal looks
        looks += 1
        await exchange.reply(200, page(1.0 + looks / 4, looks * 1000).encode())

    async with fake_kubelet(keys, answer) as running:
        yield running


@pytest.fixture
async def rest(keys: Keys, kubelet: FakeKubelet) -> AsyncIterator[RestClient]:
    config = edge_config(keys, kubelet.port, metricsToken=TOKEN)
    async with api_server(config) as url, rest_client(keys, url) as client:
        yield client


async def test_nodes_and_pods_show_their_usage(rest: RestClient, kubelet: FakeKubelet) -> None:
    _, nodes = await rest("GET", f"{API}/nodes")
    assert nodes["kind"] == "NodeMetricsList"
    (node,) = nodes["items"]
    assert node["metadata"]["name"] == "edge-1"
    assert node["usage"] == {"cpu": "500000000n", "memory": "976562Ki"}
    _, pods = await rest("GET", f"{API}/namespaces/default/pods?labelSelector=app%3Dsingle")
    (pod,) = pods["items"]
    usage_of_app = {"cpu": "250000000n", "memory": "1024Ki"}
    assert pod["containers"] == [{"name": "app", "usage": usage_of_app}]
    status, one = await rest("GET", f"{API}/namespaces/default/pods/single")
    assert (status, one["kind"]) == (200, "PodMetrics")
    status, none = await rest("GET", f"{API}/namespaces/default/pods/double")
    assert (status, none["message"]) == (404, 'podmetrics.metrics.k8s.io "double" not found')
    asked = kubelet.seen[0]
    assert asked.target == "/metrics/resource"
    assert asked.values("Authorization") == [f"Bearer {TOKEN}"]
    assert asked.client_name == ""


async def test_the_group_is_announced_only_with_a_token(keys: Keys, rest: RestClient) -> None:
    _, groups = await rest("GET", "/apis")
    assert "metrics.k8s.io" in [group["name"] for group in groups["groups"]]
    assert (await rest("GET", API))[1]["kind"] == "APIResourceList"
    assert (await rest("DELETE", f"{API}/nodes"))[0] == 405
    assert (await rest("GET", f"{API}/none"))[0] == 404
    async with api_server(edge_config(keys, 1)) as url, rest_client(keys, url) as bare:
        _, groups = await bare("GET", "/apis")
        assert "metrics.k8s.io" not in [group["name"] for group in groups["groups"]]
        assert (await bare("GET", f"{API}/nodes"))[0] == 404


async def test_who_takes_no_token_is_shown_the_api_servers_certificate(
    rest: RestClient, kubelet: FakeKubelet
) -> None:
    with_token = kubelet.script

    async def refuse_tokens(exchange: Exchange) -> None:
        if exchange.client_name:
            await with_token(exchange)
        else:
            await exchange.reply(401, b"no tokens here")

    kubelet.script = refuse_tokens
    assert len((await rest("GET", f"{API}/nodes"))[1]["items"]) == 1
    *_, asked = kubelet.seen
    assert asked.values("Authorization") == []


async def test_a_node_that_shows_nothing_is_left_out(
    rest: RestClient, kubelet: FakeKubelet
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(403, b"no")

    kubelet.script = refuse
    assert (await rest("GET", f"{API}/nodes"))[1]["items"] == []
    assert (await rest("GET", f"{API}/pods"))[1]["items"] == []
