"""Pods for these tests, besides those that every lab has."""

import uuid
from typing import Any

from lab.containerd import Lab, Pod
from tests.e2e.stack import wait_until

EXITED = 2
ODD_BYTES = b"unix\ncrlf\r\nnot UTF-8: \xff\xfe\x80\n\ttab, nul \x00\nno newline at the end"
"""What the log of ``odd`` holds; the runtime takes one carriage return off the end of a line."""


def run_more_pods(runtime: Lab) -> None:
    """Run them.

    ``pair`` has two containers and ``single`` one, with a label in common; ``again`` has been
    restarted; ``odd`` has written ODD_BYTES; ``counted`` has written 100 numbers of seven digits.
    """
    chorus = {"app": "chorus"}
    pair = run_pod(runtime, "pair", chorus)
    _say(runtime, pair, "alto", "echo alto 1; echo alto 2")
    _say(runtime, pair, "bass", "echo bass 1; echo bass 2 >&2")
    _say(runtime, run_pod(runtime, "single", chorus), "tenor", "echo tenor 1")
    again = run_pod(runtime, "again")
    for attempt, script in enumerate(("echo first life; exit 1", "echo second life; sleep 9999")):
        container = runtime.run_container(
            again,
            "again",
            ["sh", "-c", script],
            metadata={"name": "again", "attempt": attempt},
            log_path=f"again/{attempt}.log",
        )
        if attempt == 0:
            wait_for_end(runtime, container)
    octal = "".join(f"\\{byte:03o}" for byte in ODD_BYTES.replace(b"\r", b"\r\r"))
    runtime.run_container(run_pod(runtime, "odd"), "odd", ["printf", octal])
    runtime.run_container(run_pod(runtime, "counted"), "counted", ["seq", "1000001", "1000100"])


def run_pod(
    runtime: Lab, name: str, labels: dict[str, str] | None = None, *, uid: str = "", **config: Any
) -> Pod:
    """Run a pod without containers, with those labels, and those further fields of its sandbox."""
    metadata = {"name": name, "namespace": "default", "uid": uid or str(uuid.uuid4())}
    known = {f"io.kubernetes.pod.{key}": value for key, value in metadata.items()}
    return runtime.run_pod(
        name,
        host_network=not runtime.has_network,
        metadata=metadata,
        labels=known | (labels or {}),
        **config,
    )


def wait_for_end(runtime: Lab, container: str) -> None:
    """Wait until the container has ended."""

    def has_ended() -> bool:
        status: Any = runtime.cri("ContainerStatus", container_id=container).status
        return bool(status.state == EXITED)

    wait_until(has_ended, f"the end of container {container}")


def _say(runtime: Lab, pod: Pod, name: str, script: str) -> None:
    runtime.run_container(pod, name, ["sh", "-c", f"{script}; sleep 9999"])
