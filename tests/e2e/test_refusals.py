"""What can't be done is refused soon, with a sentence that says why."""

import pytest

from tests.e2e.conftest import NewStack
from tests.e2e.kubectl import Kubectl
from tests.e2e.refused import COMMANDS, refused

PODS = {"phantom": ("phantom",), "web": ("web", "sidecar"), "failer": ("failer",)}


@pytest.fixture(scope="module")
def kubectl(new_stack: NewStack) -> Kubectl:
    """Its API server knows of a pod, and of a container, that the node does not have."""
    return new_stack(pods=PODS).kubectl


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pod_that_does_not_exist(kubectl: Kubectl, command: str) -> None:
    assert 'pods "nobody" not found' in refused(kubectl, command, "nobody").err


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("logs", 'container "phantom" in pod "phantom" is waiting to start: ContainerCreating'),
        ("exec", 'container not found ("phantom")'),
        ("attach", "container phantom not found in pod phantom_default"),
    ],
)
def test_a_pod_that_the_node_does_not_have(kubectl: Kubectl, command: str, why: str) -> None:
    assert why in refused(kubectl, command, "phantom").err


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("logs", 'container "sidecar" in pod "web" is waiting to start'),
        ("exec", 'container not found ("sidecar")'),
        ("attach", "container sidecar not found in pod web_default"),
    ],
)
def test_a_container_that_the_node_does_not_have(kubectl: Kubectl, command: str, why: str) -> None:
    assert why in refused(kubectl, command, "web", "sidecar").err


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("exec", 'container not found ("failer")'),
        ("attach", "container failer not found in pod failer_default"),
    ],
)
def test_a_container_that_has_ended(kubectl: Kubectl, command: str, why: str) -> None:
    assert why in refused(kubectl, command, "failer").err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_node_that_is_not_connected(kubectl: Kubectl, command: str) -> None:
    assert 'edge node "edge-2" is not connected' in refused(kubectl, command, "ghost").err
