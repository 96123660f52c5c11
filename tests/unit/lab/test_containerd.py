"""The private containerd: real daemon, real pods, and nothing left afterwards."""

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import leftovers
from lab.containerd import Lab, LabError, Pod, compile_descriptors, missing
from lab.images import image_archive

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {', '.join(missing())}"),
]

DEADLINE = 15.0


@pytest.fixture(scope="module")
def descriptors() -> bytes:
    return compile_descriptors()


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cd")  # short: a unix socket's path goes below it


@pytest.fixture
def lab(base: Path, descriptors: bytes) -> Iterator[Lab]:
    with Lab(base, descriptors=descriptors) as running:
        yield running


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.02)


def log_of(pod: Pod, name: str) -> list[str]:
    """The text of each line in a container's log file."""
    file = pod.log_directory / name / "0.log"
    return [line.split(" ", 3)[3] for line in file.read_text().splitlines()]


def traces(lab: Lab) -> list[str]:
    """What is left of a lab on this machine."""
    base = str(lab.base)
    commands = (" ".join(leftovers.arguments_of(pid)) for pid in leftovers.all_pids())
    found = [command for command in commands if base in command]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if base in line]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{lab.name}")]
    found += [name for name in os.listdir("/sys/class/net") if name == lab.name]
    found += [str(path) for path in leftovers.CNI_CACHE.glob(f"{lab.name}-*")]
    return found + ([base] if lab.base.exists() else [])


def test_pods_run_in_their_own_network_and_leave_nothing(lab: Lab) -> None:
    if not lab.has_network:
        pytest.skip("this machine can't have a bridge")
    pod = lab.run_pod("web")
    lab.run_container(pod, "web", ["httpd", "-f", "-p", "8080", "-h", "/www"])

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{pod.ip}:8080/", timeout=DEADLINE) as answer:
                return bool(answer.read() == b"hello from the lab\n")
        except OSError:  # it does not listen yet
            return False

    wait_until(answers)
    assert traces(lab) != []
    lab.down()
    assert traces(lab) == []
    lab.down()


def test_talker_writes_one_numbering_on_both_streams(lab: Lab) -> None:
    pod = lab.run_pod("talker", host_network=not lab.has_network)
    lab.run_container(pod, "talker", ["talker"])
    file = pod.log_directory / "talker" / "0.log"
    wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") > 5000)
    lines = [line.split(" ") for line in file.read_text().splitlines()]
    numbers = sorted(int(line[-1]) for line in lines)
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(line[1] == ("stdout" if int(line[-1]) % 2 else "stderr") for line in lines)


def test_a_second_up_keeps_the_daemon_and_another_owner_finds_it(
    lab: Lab, base: Path, descriptors: bytes
) -> None:
    pod = lab.run_pod("one", host_network=True)
    container = lab.run_container(pod, "one", ["sleep", "infinity"])
    before = lab.pid
    lab.up()
    other = Lab(base, descriptors=descriptors)
    other.up()
    assert before == lab.pid == other.pid
    assert other.status()["containers"] == {container: "one"}
    other.cri.channel.close()


def test_a_crashed_daemon_is_cleared_away_by_the_next_up(
    lab: Lab, base: Path, descriptors: bytes
) -> None:
    pod = lab.run_pod("orphan", host_network=True)
    lab.run_container(pod, "orphan", ["sleep", "4242"])
    crashed = lab.pid
    assert crashed is not None
    os.kill(crashed, signal.SIGKILL)
    wait_until(lambda: lab.pid is None)
    assert any("4242" in leftovers.arguments_of(pid) for pid in leftovers.all_pids())
    with Lab(base, descriptors=descriptors) as after:
        assert after.pid not in (None, crashed)
        assert after.status()["containers"] == {}
        assert not any("4242" in leftovers.arguments_of(pid) for pid in leftovers.all_pids())
    assert traces(after) == []


def test_a_failing_start_says_why_and_leaves_nothing(
    base: Path, descriptors: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = Lab(base, descriptors=descriptors, idle_timeout='broken "quotes')
    with pytest.raises(LabError, match="containerd ended"):
        lab.up()
    assert "failed to load TOML" in capsys.readouterr().err
    assert traces(lab) == []


def test_too_long_a_path_for_a_socket_is_refused(tmp_path: Path, descriptors: bytes) -> None:
    lab = Lab(tmp_path / ("x" * 100), descriptors=descriptors)
    with pytest.raises(LabError, match="too long for a unix socket"):
        lab.up()


def test_images_are_the_same_each_time() -> None:
    assert image_archive() == image_archive()
