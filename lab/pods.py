"""The pods that the lab runs on its node, for tests and for people to try things on."""

from dataclasses import dataclass

from lab.containerd import Lab


@dataclass(frozen=True, slots=True)
class LabPod:
    """A pod of one container that bears the pod's name."""

    name: str
    command: tuple[str, ...]
    stdin: bool = False
    tty: bool = False


PODS = (
    LabPod("talker", ("talker",)),
    LabPod("shell", ("sh",), stdin=True, tty=True),
    LabPod("cat", ("cat",), stdin=True),
    LabPod("failer", ("sh", "-c", "echo about to fail; echo failing >&2; exit 3")),
    LabPod("web", ("httpd", "-f", "-p", "8080", "-h", "/www")),
)


def run_pods(lab: Lab) -> None:
    """Run all of them, in namespace ``default``.

    Each has its own network namespace, unless the machine allows the lab no bridge.
    """
    for each in PODS:
        pod = lab.run_pod(each.name, host_network=not lab.has_network)
        lab.run_container(pod, each.name, each.command, stdin=each.stdin, tty=each.tty)


def missing_pods(lab: Lab) -> list[str]:
    """The names of those that the runtime does not have; their state does not matter."""
    present = set(lab.status().get("containers", {}).values())
    return [each.name for each in PODS if each.name not in present]
