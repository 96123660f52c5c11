from dataclasses import replace

import pytest

from streamkit.wire.exchange import RequestHead
from streamkit.wire.pod_facts import (
    HEADER,
    MAX_FACTS,
    ContainerFacts,
    PodFacts,
    decode_facts,
    encode_facts,
    facts_of,
    with_facts,
)
from tests.unit.streamkit.wire.pod_facts_vectors import each

FACTS = PodFacts(
    uid="8b1c",
    runtime_uid="c0ff",
    containers=(
        ContainerFacts("app", "waiting", "CrashLoopBackOff", last_id="containerd://aa01"),
        ContainerFacts("side"),
    ),
    has_init=True,
    is_current=True,
)
REQUEST = RequestHead("GET", "/containerLogs/default/web/app", (("User-Agent", "Go"),))


@each("pods")
def test_values_are_read_and_written(vector: dict[str, str]) -> None:
    facts = decode_facts(vector["value"])
    assert facts
    assert encode_facts(facts) == vector["value"]


@each("tolerated")
def test_other_spellings_mean_the_same(vector: dict[str, str]) -> None:
    facts = decode_facts(vector["value"])
    assert facts
    assert encode_facts(facts) == vector["as"]


@each("useless")
def test_what_is_none_counts_as_no_facts(vector: dict[str, str]) -> None:
    assert decode_facts(vector["value"]) is None


def test_nesting_without_end_counts_as_no_facts() -> None:
    assert decode_facts("[" * (MAX_FACTS - 1)) is None


def test_facts_go_along_with_a_request() -> None:
    told = with_facts(REQUEST, FACTS)
    assert facts_of(told) == FACTS
    assert told.target == REQUEST.target
    assert told.headers[:-1] == REQUEST.headers
    assert facts_of(REQUEST) is None
    assert FACTS.container("side") == ContainerFacts("side")
    assert FACTS.container("other") is None


@pytest.mark.parametrize("facts", [FACTS, None])
def test_what_a_caller_made_up_does_not(facts: PodFacts | None) -> None:
    forged = (HEADER.upper(), '{"uid":"forged","containers":[]}')
    request = RequestHead("GET", REQUEST.target, (forged, *REQUEST.headers, forged))
    told = with_facts(request, facts)
    assert facts_of(told) == facts
    assert "forged" not in str(told.headers)


def test_too_much_is_not_told() -> None:
    many = tuple(ContainerFacts(f"container-{number:03}", "running") for number in range(500))
    assert with_facts(REQUEST, replace(FACTS, containers=many)) == REQUEST
    value = encode_facts(replace(FACTS, containers=many))
    assert len(value) > MAX_FACTS
    assert decode_facts(value) is None
