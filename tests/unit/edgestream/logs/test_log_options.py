"""The query of /containerLogs."""

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.logs.options import LogOptions, parse_log_query

SECOND = 10**9
NOW = 1_714_557_600 * SECOND


def parse(query: str) -> LogOptions:
    return parse_log_query(query, now_ns=NOW)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", LogOptions()),
        (
            "follow=true&previous=true&timestamps=true",
            LogOptions(follow=True, previous=True, timestamps=True),
        ),
        ("follow=0&previous=FALSE&timestamps=False", LogOptions()),
        ("follow=&previous&timestamps=no", LogOptions(follow=True, previous=True, timestamps=True)),
        ("follow=false&follow=true", LogOptions()),
        ("tailLines=0", LogOptions(tail_lines=0)),
        ("tailLines=%2B10", LogOptions(tail_lines=10)),
        ("tailLines=-0", LogOptions(tail_lines=0)),
        ("limitBytes=9223372036854775807", LogOptions(limit_bytes=2**63 - 1)),
        ("limitBytes=" + "0" * 5000 + "7", LogOptions(limit_bytes=7)),
        ("tailLines=5&tail=7", LogOptions(tail_lines=7)),
        ("tailLines=5&tail=all", LogOptions()),
        ("tailLines=x&tail=all", LogOptions()),
        ("tailLines=5&tail=", LogOptions(tail_lines=5)),
        ("sinceSeconds=5", LogOptions(since_ns=NOW - 5 * SECOND)),
        ("sinceTime=2024-05-01T10:00:00Z", LogOptions(since_ns=NOW)),
        ("sinceTime=2024-05-01T18:00:00.000000001%2B08:00", LogOptions(since_ns=NOW + 1)),
        ("sinceTime=", LogOptions()),
        ("sinceTime=null", LogOptions()),
        ("stream=Stdout", LogOptions(stream="Stdout")),
        ("stream=Stderr", LogOptions(stream="Stderr")),
        ("stream=All&tailLines=1", LogOptions(tail_lines=1)),
        ("container=other&pretty=true&x=%zz", LogOptions()),
        ("tailLines=5;follow=true&timestamps=1", LogOptions(timestamps=True)),
        ("tailLines=%zz&tailLines=3", LogOptions(tail_lines=3)),
        ("&&follow=1&", LogOptions(follow=True)),
    ],
)
def test_decoded(query: str, options: LogOptions) -> None:
    assert parse(query) == options


@pytest.mark.parametrize(
    "query",
    [
        "tailLines=",
        "tailLines=1_000",
        "tailLines=%201",
        "tailLines=1.0",
        "tailLines=%D9%A1",
        "limitBytes=9223372036854775808",
        "sinceSeconds=-9223372036854775809",
        "sinceSeconds=" + "9" * 5000,
        "tail=many",
        "sinceTime=yesterday",
        "sinceTime=2024-05-01T10:00:00+08:00",
        "sinceTime=2024-02-30T10:00:00Z",
        "tailLines=-1&limitBytes=x",
    ],
)
def test_undecodable(query: str) -> None:
    with pytest.raises(KubeletAnswer) as caught:
        parse(query)
    assert (caught.value.status, caught.value.body) == (
        400,
        '{"message": "Unable to decode query."}',
    )
    assert dict(caught.value.headers)["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "query",
    [
        "tailLines=-1",
        "limitBytes=0",
        "sinceSeconds=0",
        "sinceSeconds=1&sinceTime=2024-05-01T10:00:00Z",
        "sinceSeconds=1&sinceTime=",
        "stream=",
        "stream=stdout",
        "stream=Stdout&tailLines=1",
        "stream=Stderr&tail=1",
    ],
)
def test_senseless(query: str) -> None:
    with pytest.raises(KubeletAnswer) as caught:
        parse(query)
    assert (caught.value.status, caught.value.body) == (422, '{"message": "Invalid request."}')
