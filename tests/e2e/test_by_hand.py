"""Both services, started from a shell with the lab's own two files, do what the lab's did."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.environment import BIN
from lab.layout import NODE_NAME, Layout, read_variables
from tests.e2e.kubectl import Kubectl, Outcome
from tests.e2e.stack import Program, check_log, wait_until

COMMANDS: tuple[tuple[tuple[str, ...], bytes], ...] = (
    (("logs", "again", "--previous"), b""),
    (("logs", "pair", "-c", "alto", "--tail=1"), b""),
    (("exec", "web", "--", "sh", "-c", "hostname; echo failing >&2; exit 7"), b""),
    (("exec", "-i", "cat", "--", "sha256sum"), bytes(range(256)) * 1000),
    (("attach", "failer"), b""),
    (("logs", "ghost"), b""),
)


def outcomes(kubectl: Kubectl) -> list[Outcome]:
    """How the commands end, but for the time that they take."""
    ended = [kubectl(*command, stdin=data) for command, data in COMMANDS]
    return [replace(outcome, seconds=0) for outcome in ended]


@pytest.fixture(scope="session")
def by_hand(lab: Layout) -> Iterator[dict[str, Program]]:
    """The two programs. Once started they take the place of the lab's, for all tests to come."""
    programs = {}
    for service, file in (("cloudstream", lab.cloud_config), ("edgestream", lab.edge_config)):
        line = f"cd {file.parent} && exec {BIN / service} --config {file.name}"
        programs[service] = Program(("sh", "-c", line), lab.logs / f"{service}-by-hand.log")
    yield programs
    for program in programs.values():
        program.close()
        check_log(program.log_text)


def test_they_behave_the_same(lab: Layout, kubectl: Kubectl, by_hand: dict[str, Program]) -> None:
    before = outcomes(kubectl)
    assert [outcome.code for outcome in before] == [0, 0, 7, 0, 1, 1]
    told = read_variables(lab.env_file)
    for variable in ("EDGE_PID", "CLOUD_PID"):
        os.kill(int(told[variable]), signal.SIGTERM)
    wait_until(lambda: kubectl("logs", "failer").code == 1, "the end of the lab's cloud service")
    by_hand["edgestream"].start()  # in either order
    by_hand["edgestream"].wait_for_log("attempt 2 follows")
    by_hand["cloudstream"].start()
    by_hand["edgestream"].wait_for_log(f'as node "{NODE_NAME}"')
    assert outcomes(kubectl) == before
