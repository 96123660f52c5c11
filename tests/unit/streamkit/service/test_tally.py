"""Requests, counted with labels that are few."""

import pytest
from prometheus_client.metrics_core import HistogramMetricFamily

from streamkit.errors import ChannelReset, OpenTimeout, StreamError
from streamkit.service.tally import Durations, RequestTally, kind_of, status_label


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/containerLogs/ns/pod/app", "logs"),
        ("/portForward/ns/pod", "portforward"),
        ("/metrics/cadvisor", "metrics"),
        ("/stats/summary", "stats"),
        ("/pods", "other"),
        ("/", "other"),
        ("", "other"),
    ],
)
def test_kinds_are_few(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_statuses_are_those_that_http_knows() -> None:
    assert [status_label(status) for status in (101, 200, 503, 0, 299, 12345)] == [
        *("101", "200", "503"),
        *("other", "other", "other"),
    ]


def test_a_request_counts_while_it_runs_and_when_it_has_ended() -> None:
    tally = RequestTally()
    with tally.request("/exec/ns/pod/app") as exchange:
        assert tally.live["exec"] == 1
        exchange.status = 101
    assert tally.live["exec"] == 0
    assert tally.ended == {("exec", "101"): 1}
    assert not tally.failed


def test_a_failure_counts_by_its_code_and_has_a_status() -> None:
    tally = RequestTally()

    def fail(path: str, status: int, error: StreamError) -> None:
        with tally.request(path) as exchange:
            exchange.status = status
            raise error

    for path, status, error in (
        ("/exec/ns/pod/app", 0, OpenTimeout("no answer")),
        ("/containerLogs/ns/pod/app", 200, ChannelReset("it broke off")),
    ):
        with pytest.raises(type(error)):
            fail(path, status, error)
    assert tally.failed == {("exec", OpenTimeout.code): 1, ("logs", ChannelReset.code): 1}
    assert tally.ended == {("exec", "504"): 1, ("logs", "200"): 1}
    assert tally.live.total() == 0


def test_durations_fall_into_buckets() -> None:
    durations = Durations((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        durations.observe(seconds)
    family = HistogramMetricFamily("took", "How long it took.")
    durations.add_to(family)
    found = {(each.name, each.labels.get("le")): each.value for each in family.samples}
    assert found == {
        ("took_bucket", "0.1"): 2,
        ("took_bucket", "1.0"): 3,
        ("took_bucket", "+Inf"): 4,
        ("took_count", None): 4,
        ("took_sum", None): pytest.approx(7.65),
    }
