"""Managers and cloud services that come and go, with other people's rules around."""

import os
import random
import subprocess
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from cloudstream.iptables.rules import Forward, wanted_rules
from tests.integration.iptables.site import CLOUDSTREAM, V4, Site, furnished, kill
from tests.support.netns import DOCKER, JUMP, difference
from tests.support.wait import eventually

STEPS = int(os.environ.get("IPTABLES_RESTARTS", "6"))
"""How often something is started or killed in each run."""

EDGES = [ip_network(edge) for edge in (V4.edge, V4.second_edge)]
RULES = wanted_rules([Forward(10351, V4.cloud)], EDGES, stream_port=10003)
OURS = {
    "+ :TUNNEL-PORT - ",
    f"+ -A PREROUTING {JUMP}",
    f"+ -A OUTPUT {JUMP}",
    *(f"+ {rule}" for rule in RULES),
}


class Crowd:
    """The managers and cloud services on the cloud host, of which some come and some are killed."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._managers: list[subprocess.Popen[bytes]] = []

    def change(self, choice: random.Random) -> str:
        """Start or kill something, and say what. Managers may be none or many."""
        changes = [self.add_manager, self._site.restart_cloud, self._site.start_cloud]
        change = choice.choice(changes + [self.kill_manager] * 2 * bool(self._managers))
        change()
        return change.__name__

    def add_manager(self) -> None:
        self._managers.append(self._site.start_manager())

    def kill_manager(self) -> None:
        kill(self._managers.pop(0))

    def kill_managers(self) -> None:
        while self._managers:
            self.kill_manager()


@pytest.mark.timeout(120 + 10 * STEPS)
@pytest.mark.parametrize(("backend", "seed"), [("nft", 1), ("legacy", 2)])
def test_whatever_is_killed_only_our_chain_and_jumps_come(
    tmp_path: Path, backend: str, seed: int
) -> None:
    choice = random.Random(seed)
    with furnished(V4, tmp_path, backend=backend) as site:
        site.cloud.restore(backend, DOCKER)
        before = site.cloud.rules(backend)

        def came() -> list[str]:
            return difference(before, site.cloud.rules(backend))

        crowd, done = Crowd(site), []
        for _ in range(STEPS):
            done.append(crowd.change(choice))
            time.sleep(choice.uniform(0, 1.5))  # any moment of a start may be the one of a kill
            found = came()
            assert {*found} <= OURS, done
            assert len({*found}) == len(found), done
        site.restart_cloud()
        crowd.add_manager()
        crowd.add_manager()
        eventually(lambda: sorted(came()) == sorted(OURS))
        path = "/api/v1/namespaces/default/pods/web/log?container=app"
        eventually(lambda: site.ask_api(path).startswith("edge-1 GET /containerLogs/default/web/"))
        assert sorted(came()) == sorted(OURS)
        crowd.kill_managers()
        site.cloud.run(CLOUDSTREAM, "iptables", "--cleanup")
        assert site.cloud.rules(backend) == before
