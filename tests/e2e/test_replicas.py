"""Two replicas behind one address, of which one is drained and the other one killed.

``E2E_REPLICA_EDGES`` is how many edges there are, 4 unless told otherwise, and
``E2E_REPLICA_REQUESTS`` how many requests are asked at a time, 24 unless told otherwise.
"""

import json
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab.containerd import Lab
from lab.layout import Layout
from tests.e2e.forwards import PAGE, forwarded, get
from tests.e2e.kubectl import tell
from tests.e2e.refused import SOON
from tests.e2e.replica_site import HOSTS, LOG, WEB_PORT, ReplicaSite, pod_of
from tests.e2e.stack import wait_until

EDGES = int(os.environ.get("E2E_REPLICA_EDGES", "4"))
REQUESTS = int(os.environ.get("E2E_REPLICA_REQUESTS", "24"))
AT_ONCE = 6
SESSIONS = 4
"""That run while a replica is drained, through it."""
NOBODY = 10.0
"""Seconds, less than ``deadlines.drain``, for a drain of the only replica that is left."""
MOVED = 10.0
"""Seconds until all edges are with the other replica."""

pytestmark = pytest.mark.timeout(180 + EDGES * 10 + REQUESTS * 3)


@pytest.fixture(scope="module")
def site(
    lab: Layout, runtime: Lab, kubectl_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicaSite]:
    directory = tmp_path_factory.mktemp("replicas")
    with ReplicaSite(lab, runtime, directory, kubectl_binary, edges=EDGES) as made:
        yield made


def logs(site: ReplicaSite, node: str) -> None:
    # Behind that comes what was sent to others that attached.
    limit = f"--limit-bytes={len(LOG)}"
    assert site.kubectl.ok("logs", limit, pod_of(node)).out == LOG


def executed(site: ReplicaSite, node: str) -> None:
    data = os.urandom(100_000)
    assert site.kubectl.ok("exec", "-i", pod_of(node), "--", "cat", stdin=data).out == data


def attached(site: ReplicaSite, node: str) -> None:
    line = f"{uuid.uuid4()}\n".encode()
    with site.kubectl.talk("attach", "-i", pod_of(node)) as talk:
        talk.send(line)
        talk.wait_for(line)


def proxied(site: ReplicaSite, node: str) -> None:
    page = site.kubectl.ok("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary").out
    assert json.loads(page)["node"]["nodeName"] == node


def proxied_log(site: ReplicaSite, node: str) -> None:
    path = f"containerLogs/default/{pod_of(node)}/app?limitBytes={len(LOG)}"
    assert site.kubectl.ok("get", "--raw", f"/api/v1/nodes/{node}/proxy/{path}").out == LOG


def forwarded_page(site: ReplicaSite, node: str) -> None:
    with forwarded(site.kubectl, WEB_PORT, pod_of(node)) as local:
        assert get(local) == PAGE


KINDS: dict[str, tuple[str, Callable[[ReplicaSite, str], None]]] = {
    "kubectl logs": ("logs", logs),
    "kubectl exec": ("exec", executed),
    "kubectl attach": ("attach", attached),
    "kubectl port-forward": ("portforward", forwarded_page),
    "a node's summary": ("stats", proxied),
    "a log by the node proxy": ("logs", proxied_log),
}
"""What is asked, and how an edge counts it."""


def ask(site: ReplicaSite, amount: int) -> Counter[tuple[str, str]]:
    """Ask for that much of all kinds, at nodes at random; each has to come out right.

    Returns what the edges should have counted.
    """
    seed = random.randrange(2**32)
    tell(f"seed {seed}")
    chance = random.Random(seed)
    kinds = [kind for kind in KINDS if site.has_pages or kind != "kubectl port-forward"]
    plan = [(chance.choice(site.names), chance.choice(kinds)) for _ in range(amount)]

    def one(step: tuple[str, str]) -> None:
        node, kind = step
        KINDS[kind][1](site, node)

    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(one, plan))
    tell(f"{amount} requests in {time.monotonic() - began:.1f} s, none failed")
    return Counter((node, KINDS[kind][0]) for node, kind in plan)


@contextmanager
def readiness_probes(site: ReplicaSite) -> Iterator[None]:
    """The balancers learn who is ready, four times a second, for the length of the block."""
    is_over = threading.Event()

    def probe() -> None:
        while not is_over.wait(0.25):
            site.look()

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_either_replica_serves_every_node(site: ReplicaSite) -> None:
    held = [site.held_by(index) for index in range(len(HOSTS))]
    tell(f"edges by replica: {held}")
    assert sum(held) == EDGES
    assert all(held)
    before = site.answered()
    expected = ask(site, REQUESTS)
    found = site.answered() - before
    assert found == expected


def test_no_request_fails_by_a_drain(site: ReplicaSite) -> None:
    site.lead_requests_to(0)
    with (
        readiness_probes(site),
        ThreadPoolExecutor(1) as threads,
        ExitStack() as sessions,
    ):
        running = [
            sessions.enter_context(site.kubectl.talk("exec", "-i", pod_of(node), "--", "cat"))
            for node in site.names[:SESSIONS]
        ]
        for session in running:
            session.send(b"before\n")
            session.wait_for(b"before\n")
        site.lead_requests_to(None)
        asked = threads.submit(ask, site, REQUESTS)
        began = time.monotonic()
        site.clouds[0].program.send_signal(signal.SIGTERM)
        seconds = site.wait_until_published(1, MOVED)
        tell(f"all Nodes lead to the other replica after {seconds:.1f} s")
        assert site.held_by(1) == EDGES
        for session in running:
            assert session.process.poll() is None, bytes(session.err)
            session.send(b"after\n")
            session.wait_for(b"after\n")
            session.end_input()
            assert session.finish().code == 0
        assert site.clouds[0].program.wait() == 128 + signal.SIGTERM
        tell(f"the drain took {time.monotonic() - began:.1f} s")
        asked.result()
    ask(site, max(REQUESTS // 4, 1))
    assert set(site.record()["ipTunnelPort"]) == set(HOSTS)


def test_a_killed_replica_ends_what_it_carried_and_its_edges_come_to_the_other(
    site: ReplicaSite,
) -> None:
    before = site.record()
    site.clouds[0].program.start()
    node = site.names[0]
    with readiness_probes(site):
        wait_until(lambda: site.look() == [True, True], "two ready replicas")
        # By the replica that does not hold the node: the other one can't say a word any more.
        site.lead_requests_to(0)
        with (
            site.kubectl.talk("exec", "-i", pod_of(node), "--", "cat") as executing,
            site.kubectl.talk("logs", "-f", "--tail=1", pod_of(node)) as following,
        ):
            executing.send(b"hello\n")
            executing.wait_for(b"hello\n")
            following.wait_for(b"\n")
            began = time.monotonic()
            site.clouds[1].program.end(signal.SIGKILL)
            done, followed = executing.finish(SOON), following.finish(SOON)
        tell(f"exit {done.code} after {done.seconds:.1f} s: {done.err}{followed.lines[-1]}")
        assert (done.code, followed.code) == (1, 0)
        assert "the session was lost: the replica at 127.0.0.3 broke the answer off" in done.err
        assert "[KS3004]" in followed.lines[-1]
        site.wait_until_published(0, MOVED)
        tell(f"edges and Nodes are with the other after {time.monotonic() - began:.1f} s")
        assert site.held_by(0) == EDGES
        ask(site, max(REQUESTS // 4, 1))
    # Both have kept their ports, and the one that is gone may come back to its own.
    assert site.record() == before


def test_a_drain_with_nobody_to_go_to_is_short(site: ReplicaSite) -> None:
    # The record still has the other one.
    began = time.monotonic()
    assert site.clouds[0].program.end() == 128 + signal.SIGTERM
    seconds = time.monotonic() - began
    tell(f"the drain took {seconds:.1f} s")
    assert seconds < NOBODY
