"""A cloud service, an edge agent and an API server of a test's own, in front of the lab's pods.

All three are started as a person would start them: the program with a configuration file.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import yaml

from lab import configs
from lab.environment import BIN
from lab.layout import HOST, NODE_NAME, Layout
from lab.programs import ENVIRONMENT
from tests.e2e.kubectl import Kubectl
from tests.unit.lab.places import free_layout

DEADLINE = 30.0
"""Seconds for a program to start, to end, or to notice something."""

Document = dict[str, Any]


def wait_until(condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> float:
    """Wait for a condition, and return the seconds that this took; ``what`` describes it."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < deadline, f"not within {deadline:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - begin


def merged(base: Document, extra: Mapping[str, Any]) -> Document:
    """The one document, with what the other one says in its place, section by section."""
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = merged(dict(old or {}), value) if both else value
    return result


@dataclass(slots=True)
class Program:
    """A program in the background, which may be started again after its end; one log for all."""

    command: tuple[str, ...]
    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT
            )

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        assert self._process
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal that ends it, and return its exit code; negative for the signal's."""
        self.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        assert self._process
        return self._process.wait(DEADLINE)

    def close(self) -> None:
        """End it at once, if it runs."""
        if self._process:
            self._process.kill()
            self._process.wait(DEADLINE)

    @property
    def log_text(self) -> str:
        """All that it has logged."""
        return self.log.read_text() if self.log.exists() else ""

    def wait_for_log(self, text: str, *, times: int = 1) -> None:
        """Wait until it has logged that text so many times."""
        what = f"{text!r} in {self.log}"
        wait_until(lambda: self.log_text.count(text) >= times, what)


class Stack:
    """The three programs. As a context manager they run, connected, for the length of the block.

    Keys and the containerd are those of ``lab``, unless ``runtime`` is the directory of another
    one. ``cloud`` and ``edge`` are merged into the configurations that the lab itself would write.
    With ``pods``, which are containers' names by pod, or what is particular about a Pod object, the
    API server knows those and does not ask the runtime. ``via`` is given the tunnel port, and
    returns the one that the edge shall dial; ``wire`` is the version that they then speak.
    Without ``kube_api``, the cloud holds no connections but its callers' and its edge's.
    """

    def __init__(
        self,
        lab: Layout,
        directory: Path,
        kubectl: Path,
        *,
        runtime: Path | None = None,
        cloud: Mapping[str, Any] | None = None,
        edge: Mapping[str, Any] | None = None,
        pods: Mapping[str, tuple[str, ...] | Document] | None = None,
        via: Callable[[int], int] | None = None,
        wire: str = "v2",
        kube_api: bool = True,
    ) -> None:
        self.layout = layout = free_layout(directory)
        self._wire = wire
        directory.joinpath("certs").symlink_to(lab.pki)
        directory.joinpath("containerd").symlink_to(runtime or lab.containerd)
        dialled = replace(layout, tunnel_port=via(layout.tunnel_port)) if via else layout
        cloudcore = merged(configs.cloudcore(layout), cloud or {})
        edgecore = merged(configs.edgecore(dialled), edge or {})
        if not kube_api:
            cloudcore = merged(cloudcore, {"cloudstream": {"lookup": {"useKubeAPI": False}}})
            edgecore = merged(edgecore, {"modules": {"edged": {"nodeIP": HOST}}})
        self._write(layout.cloud_config, cloudcore)
        self._write(layout.edge_config, edgecore)
        self._write(layout.kubeconfig, configs.kubeconfig(layout))
        apiserver = configs.apiserver(layout)
        if pods is not None:
            del apiserver["nodes"][0]["cri"]
            apiserver["pods"] += [_pod(name, each) for name, each in pods.items()]
        layout.apiserver_config.write_text(json.dumps(apiserver))
        verbose = ("-v", "4")  # shows stack traces, if there are any
        self.apiserver = self._program("apiserver", sys.executable, "-m", "lab.apiserver")
        self.cloud = self._program("cloudcore", str(BIN / "cloudstream"), *verbose)
        self.edge = self._program("edgecore", str(BIN / "edgestream"), *verbose)
        self.kubectl = Kubectl(kubectl, environment_for(layout))

    def __enter__(self) -> Self:
        try:
            for program in (self.apiserver, self.cloud, self.edge):
                program.start()
            self.wait_until_connected()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close()
        if kind is None:
            for program in (self.cloud, self.edge):
                check_log(program.log_text)

    def wait_until_connected(self, *, after: int = 0) -> None:
        """Wait until the edge is connected; ``after`` so many times before."""
        self.edge.wait_for_log(f'as node "{NODE_NAME}", speaking {self._wire}', times=after + 1)

    def _close(self) -> None:
        for program in (self.edge, self.cloud, self.apiserver):
            program.close()

    def _program(self, name: str, *command: str) -> Program:
        config = next(self.layout.directory.glob(f"{name}.*"))
        return Program((*command, "--config", str(config)), self.layout.directory / f"{name}.log")

    @staticmethod
    def _write(path: Path, content: Document) -> None:
        path.write_text(yaml.safe_dump(content))


def environment_for(layout: Layout) -> dict[str, str]:
    """What tells kubectl which API server to use, and nothing of our own settings for it."""
    own = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("KUBE")}
    # Old ones keep their cache in the home directory.
    return own | layout.variables() | {"HOME": str(layout.directory)}


def check_log(text: str) -> None:
    """Assert that nothing in it speaks of a fault of our own."""
    lines = text.splitlines()
    signs = ("Traceback", "internal error", " ERROR ", " CRITICAL ", "was never")
    faults = [line for line in lines if any(sign in line for sign in signs)]
    assert not faults, "\n".join(faults)


def _pod(name: str, particular: tuple[str, ...] | Document) -> Document:
    if isinstance(particular, tuple):
        containers = [{"name": each, "image": "any", "stdin": True} for each in particular]
        particular = {"spec": {"containers": containers}}
    metadata = {"name": name, "namespace": "default"}
    return merged({"metadata": metadata, "spec": {"nodeName": NODE_NAME}}, particular)
