from typing import Any

import pytest

from cloudstream.kube.pod_facts import facts_of_pod
from streamkit.wire.pod_facts import MAX_FACTS, decode_facts, encode_facts
from tests.unit.streamkit.wire.pod_facts_vectors import each


@each("pods")
def test_a_pod(vector: dict[str, Any]) -> None:
    facts = facts_of_pod(vector["pod"])
    assert facts
    assert encode_facts(facts) == vector["value"]
    assert decode_facts(vector["value"]) == facts


@pytest.mark.parametrize("pod", [{}, {"metadata": None}, {"metadata": {"name": "web"}}])
def test_what_has_no_identity_is_nothing_to_tell_of(pod: dict[str, Any]) -> None:
    assert facts_of_pod(pod) is None


def test_long_texts_are_cut() -> None:
    status = {"name": "app", "state": {"waiting": {"reason": "x" * 100_000}}}
    pod = {
        "metadata": {"uid": "8b1c"},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"containerStatuses": [status]},
    }
    facts = facts_of_pod(pod)
    assert facts
    assert len(encode_facts(facts)) < 400


def test_sixty_containers_fit() -> None:
    ids = "containerd://" + "f" * 64
    names = [f"{'c' * 60}{number:03}" for number in range(60)]
    statuses = [
        {"name": name, "state": {"running": {}}, "containerID": ids, "lastState": {}}
        for name in names
    ]
    pod = {
        "metadata": {"uid": "0a3b5c7d-0000-0000-0000-000000000000"},
        "spec": {"containers": [{"name": name} for name in names]},
        "status": {"containerStatuses": statuses},
    }
    facts = facts_of_pod(pod)
    assert facts
    assert len(encode_facts(facts)) <= MAX_FACTS
