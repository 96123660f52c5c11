"""``kubectl logs``, with all of its options, by every kubectl."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.kubectl import Kubectl
from tests.e2e.pods import ODD_BYTES

BURST = 5000
"""Lines that ``talker`` writes at once, before it goes on to write ten a second."""

CHORUS = ["alto 1", "alto 2", "bass 1", "bass 2", "tenor 1"]


def numbers(lines: list[str]) -> list[int]:
    """The numbers of the talker's lines, sorted: it writes to two streams, which have no order."""
    assert all(re.fullmatch(r"line \d+", line) for line in lines), lines
    return sorted(int(line.removeprefix("line ")) for line in lines)


def stamped(lines: list[str]) -> list[tuple[datetime, str]]:
    """Times and texts of lines that begin with their time."""
    pairs = [line.split(" ", 1) for line in lines]
    return [(datetime.fromisoformat(time), text) for time, text in pairs]


def test_all_of_it(each_kubectl: Kubectl) -> None:
    found = numbers(each_kubectl.ok("logs", "talker").lines)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= BURST


def test_tail(each_kubectl: Kubectl) -> None:
    assert len(each_kubectl.ok("logs", "talker", "--tail=7").lines) == 7
    assert each_kubectl.ok("logs", "talker", "--tail=0").out == b""


def test_follow(each_kubectl: Kubectl) -> None:
    with each_kubectl.talk("logs", "-f", "--tail=1", "talker") as talk:
        found = numbers(talk.wait_for_lines(8))
    assert found == list(range(found[0], found[0] + len(found)))


def test_follow_ends_with_its_container(each_kubectl: Kubectl) -> None:
    found = each_kubectl.ok("logs", "-f", "failer").lines
    assert sorted(found) == ["about to fail", "failing"]


def test_since(each_kubectl: Kubectl) -> None:
    begin = datetime.now(UTC)
    found = stamped(each_kubectl.ok("logs", "talker", "--since=2s", "--timestamps").lines)
    assert found
    assert min(found)[0] >= begin - timedelta(seconds=2)
    assert len(each_kubectl.ok("logs", "talker", "--since=1h").lines) >= BURST


def test_since_time(each_kubectl: Kubectl) -> None:
    lines = each_kubectl.ok("logs", "talker", "--timestamps").lines
    moment = stamped(lines)[-1][0].replace(microsecond=0)  # kubectl asks for whole seconds
    since = f"--since-time={moment:%Y-%m-%dT%H:%M:%SZ}"
    expected = [
        line for line, (time, _) in zip(lines, stamped(lines), strict=True) if time >= moment
    ]
    found = each_kubectl.ok("logs", "talker", "--timestamps", since).lines
    assert found[: len(expected)] == expected
    assert each_kubectl.ok("logs", "talker", "--since-time=2999-01-01T00:00:00Z").out == b""


def test_timestamps(each_kubectl: Kubectl) -> None:
    plain = each_kubectl.ok("logs", "pair", "-c", "alto").lines
    found = each_kubectl.ok("logs", "pair", "-c", "alto", "--timestamps").lines
    assert [text for _, text in stamped(found)] == plain == ["alto 1", "alto 2"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\S+ alto", line) for line in found)


def test_limit_bytes(each_kubectl: Kubectl) -> None:
    whole = each_kubectl.ok("logs", "talker").out
    assert each_kubectl.ok("logs", "talker", "--limit-bytes=1001").out == whole[:1001]


def test_previous(each_kubectl: Kubectl) -> None:
    assert each_kubectl.ok("logs", "again").lines == ["second life"]
    assert each_kubectl.ok("logs", "again", "--previous").lines == ["first life"]


def test_a_previous_one_that_never_was(each_kubectl: Kubectl) -> None:
    done = each_kubectl("logs", "cat", "--previous")
    assert done.code == 1
    assert 'previous terminated container "cat" in pod "cat" not found' in done.err


def test_all_containers(each_kubectl: Kubectl) -> None:
    found = each_kubectl.ok("logs", "pair", "--all-containers").lines
    assert sorted(found) == CHORUS[:4]


def test_selector_and_prefix(each_kubectl: Kubectl) -> None:
    options = ("-l", "app=chorus", "--all-containers", "--prefix")
    pods = {"alto": "pair", "bass": "pair", "tenor": "single"}
    expected = [f"[pod/{pods[line.split()[0]]}/{line.split()[0]}] {line}" for line in CHORUS]
    assert sorted(each_kubectl.ok("logs", *options).lines) == expected
    with each_kubectl.talk("logs", "-f", *options) as talk:
        assert sorted(talk.wait_for_lines(len(expected))) == expected


@pytest.mark.parametrize("follow", ["--follow=false", "--follow"])
@pytest.mark.parametrize("since", ["--since=0s", "--since=1h"])
@pytest.mark.parametrize("limit", [BURST, 100])
@pytest.mark.parametrize("tail", [-1, 3])
def test_options_together(
    each_kubectl: Kubectl, follow: str, since: str, limit: int, tail: int
) -> None:
    """All of them cut the same lines, whatever else is asked for with them."""
    lines = [b"%d\n" % number for number in range(1_000_001, 1_000_101)]
    expected = b"".join(lines[-tail:] if tail > 0 else lines)[:limit]
    options = (follow, since, f"--limit-bytes={limit}", f"--tail={tail}")
    done = each_kubectl.ok("logs", "counted", *options)
    assert done.out == expected


@pytest.mark.parametrize("options", [(), ("-f",)])
def test_bytes_that_are_no_text(each_kubectl: Kubectl, options: tuple[str, ...]) -> None:
    assert each_kubectl.ok("logs", "odd", *options).out == ODD_BYTES
