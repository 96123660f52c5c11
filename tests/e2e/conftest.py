"""The lab that all of these tests use, and the kubectls that they use it with."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.containerd import Lab, missing
from lab.environment import Environment
from lab.kubectl import NEWEST, find_or_install
from lab.layout import HOST, Layout
from streamkit.errors import ConfigError
from tests.e2e.background import Background, background
from tests.e2e.kubectl import Kubectl
from tests.e2e.pods import run_more_pods
from tests.e2e.stack import Program, Stack, check_log, environment_for
from tests.support import kubelet_server
from tests.support.http_server import free_port
from tests.support.v1_link import v1_link_to
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
            if item.get_closest_marker("timeout") is None:
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


@pytest.fixture(scope="session", params=[*VERSIONS, "v1", "kubelet"])
def each_kubectl(request: pytest.FixtureRequest, lab: Layout) -> Kubectl:
    """One kubectl after another; then the last one over v1, and with a kubelet behind the edge."""
    if request.param in ("v1", "kubelet"):
        stack: Stack = request.getfixturevalue(f"stack_with_{request.param}")
        return stack.kubectl
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


@pytest.fixture(scope="session")
def stack_with_v1(
    lab: Layout, kubectl_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A cloud and an edge of ours, each of which takes the other for a stock one."""
    with background() as loop:

        def via(port: int) -> int:
            return loop.enter(v1_link_to(port, lab.pki))

        directory = tmp_path_factory.mktemp("v1")
        with Stack(lab, directory, kubectl_binary, via=via, wire="v1") as stack:
            yield stack


@pytest.fixture(scope="session")
def stack_with_kubelet(
    lab: Layout, kubectl_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """An edge in front of a kubelet's plain HTTP port, instead of the runtime."""
    directory, port = tmp_path_factory.mktemp("kubelet"), free_port()
    command = (sys.executable, "-m", kubelet_server.__name__, str(lab.cri_socket), str(port))
    kubelet = Program(command, directory / "kubelet.log")
    edge = {
        "modules": {"edged": {"tailoredKubeletConfig": {"address": HOST, "readOnlyPort": port}}},
        "edgestream": {"backend": "kubelet"},
    }
    try:
        kubelet.start()
        kubelet.wait_for_log(kubelet_server.READY)
        with Stack(lab, directory, kubectl_binary, edge=edge) as stack:
            yield stack
        check_log(kubelet.log_text)
    finally:
        kubelet.close()


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
