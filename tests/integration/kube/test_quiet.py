"""A cloud service that is scraped all day has nothing to say about it."""

from pathlib import Path

from tests.integration.kube.processes import cloud_process
from tests.support.kube_server import kube_server
from tests.support.wait import until

SCRAPES = 200


async def test_scrapes_leave_no_line(tmp_path: Path) -> None:
    nodes = [{"name": "edge-1", "port": 10250}]
    async with (
        kube_server(tmp_path / "kube", nodes=nodes) as kube,
        cloud_process(tmp_path, kube.kube_config) as cloud,
        cloud.edge("edge-1"),
    ):
        log = tmp_path / "cloudstream.log"
        await until(lambda: "published the kubelet port" in log.read_text())
        before = log.read_text()
        for path in ("/metrics/resource", "/metrics/cadvisor"):
            async with cloud.client() as client:
                for _ in range(SCRAPES // 2):
                    line = "X-Forwarded-Uri: /api/v1/nodes/edge-1/proxy/metrics"
                    assert (await client.get(path, line)).status == 200
        assert log.read_text() == before
