"""The lab that all of these tests use, and the kubectls that they use it with."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.containerd import Lab, missing
from lab.environment import Environment
from lab.kubectl import NEWEST, find_or_install
from lab.layout import Layout
from streamkit.errors import ConfigError
from tests.e2e.background import Background, background
from tests.e2e.kubectl import Kubectl
from tests.e2e.pods import run_more_pods
from tests.e2e.stack import Stack, check_log, environment_for
from tests.unit.lab.places import free_layout

VERSIONS = os.environ.get("KUBECTL_VERSIONS", f"1.20 1.27 1.33 {NEWEST}").split()
"""The versions of kubectl to test with, the last one being the one for all that they have in
common."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark these tests, and give them time: the first one starts a lab and brings a kubectl."""
    lacking = ", ".join(missing())
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.timeout(180))
            if lacking:
                item.add_marker(pytest.mark.skip(reason=f"this machine lacks {lacking}"))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """A lab of its own, as ``make lab-up`` starts it, with some more pods."""
    layout = free_layout(tmp_path_factory.mktemp("e2e"))
    environment = Environment(layout)
    try:
        environment.up()
        run_more_pods(Lab(layout.containerd))
        yield layout
        for name in ("cloudstream", "edgestream"):
            check_log(layout.logs.joinpath(f"{name}.log").read_text())
    finally:
        environment.down()


def find(version: str) -> Path:
    """That kubectl, or skip."""
    try:
        return find_or_install(version)
    except ConfigError as error:
        pytest.skip(f"no kubectl {version} here: {error}")


@pytest.fixture(scope="session", params=VERSIONS)
def each_kubectl(request: pytest.FixtureRequest, lab: Layout) -> Kubectl:
    """One kubectl after another."""
    return Kubectl(find(request.param), environment_for(lab))


@pytest.fixture(scope="session")
def kubectl_binary() -> Path:
    """The last one of the kubectls."""
    return find(VERSIONS[-1])


@pytest.fixture(scope="session")
def kubectl(lab: Layout, kubectl_binary: Path) -> Kubectl:
    """The last one of the kubectls, for the lab."""
    return Kubectl(kubectl_binary, environment_for(lab))


@pytest.fixture(scope="session")
def runtime(lab: Layout) -> Iterator[Lab]:
    """The lab's container runtime."""
    found = Lab(lab.containerd)
    yield found
    found.cri.channel.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[Background]:
    """An event loop that runs beside the tests of a module."""
    with background() as running:
        yield running


NewStack = Callable[..., Stack]


@pytest.fixture(scope="module")
def new_stack(
    lab: Layout, kubectl_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewStack]:
    """Makes stacks, which end with the module."""
    with ExitStack() as stacks:

        def make(**options: Any) -> Stack:
            directory = tmp_path_factory.mktemp("stack")
            return stacks.enter_context(Stack(lab, directory, kubectl_binary, **options))

        yield make
