"""The whole lab: a node with real pods, the two services, and the stand-in with kubectl in front.

One line is printed for each part that starts. A lab belongs to its directory: it is found
again there by other processes, whoever started it.
"""

import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lab import leftovers
from lab.configs import write_configs
from lab.containerd import Lab
from lab.kubectl import find_or_install
from lab.layout import NODE_NAME, Layout, read_variables, write_variables
from lab.pods import PODS, missing_pods, run_pods
from lab.programs import ENVIRONMENT, run
from lab.services import STOP_TIMEOUT, PartFailed, Service

LISTEN_TIMEOUT = 30.0
CONNECT_TIMEOUT = 30.0
KUBECTL_TIMEOUT = 10.0

BIN = Path(sys.executable).parent


class Environment:
    """A lab at the place that ``layout`` names."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._containerd = Lab(layout.containerd)
        self._apiserver = Service(
            name="apiserver",
            pid_variable="APISERVER_PID",
            command=(sys.executable, "-m", "lab.apiserver"),
            config=layout.apiserver_config,
            log=layout.logs / "apiserver.log",
            ports=(layout.apiserver_port,),
        )
        self._cloud = Service(
            name="cloudstream",
            pid_variable="CLOUD_PID",
            command=(str(BIN / "cloudstream"), "serve"),
            config=layout.cloud_config,
            log=layout.logs / "cloudstream.log",
            ports=(layout.stream_port, layout.tunnel_port),
        )
        self._edge = Service(
            name="edgestream",
            pid_variable="EDGE_PID",
            command=(str(BIN / "edgestream"), "serve"),
            config=layout.edge_config,
            log=layout.logs / "edgestream.log",
        )
        self._kubectl_log = layout.logs / "kubectl.log"
        self._services = (self._apiserver, self._cloud, self._edge)  # in the order of their start
        self._started: list[subprocess.Popen[bytes]] = []

    def up(self) -> None:
        """Start the lab, or keep it if it runs as it should.

        Certificates that are there already are used. Raises LabError (StreamError for want of a
        kubectl) with the reason; nothing is left running then, and the last lines of the logs
        concerned are on stderr.
        """
        if self._runs():
            _say("lab", f"runs already, and is kept: {self.layout.env_file}")
            return
        begin = time.monotonic()
        if self._clear():
            _say("lab", "cleared away what was left of an earlier one")
        self.layout.require_free_ports()
        try:
            self._start()
        except BaseException as error:
            if isinstance(error, PartFailed):
                print(error.last_words(), file=sys.stderr)
            self._clear()
            raise
        _say("lab", f"ready in {time.monotonic() - begin:.1f} s: {self.layout.env_file}")

    def down(self) -> None:
        """Stop everything and remove every trace; may be repeated, and does nothing then."""
        found = self._clear()
        if self.layout.pki.exists():
            shutil.rmtree(self.layout.pki)
        leftovers.remove_if_empty(self.layout.directory)
        _say("lab", "removed" if found else "nothing left to remove")

    def status(self) -> dict[str, str]:
        """Each part with its process ids, or "not running"."""
        pids = {"containerd": [self._containerd.pid] if self._containerd.pid else []}
        pids |= {service.name: list(service.pids()) for service in self._services}
        return {name: ", ".join(map(str, found)) or "not running" for name, found in pids.items()}

    def kubectl_environment(self) -> dict[str, str]:
        """What the running lab's ``env`` file says, on top of our own environment, for kubectl."""
        return ENVIRONMENT | read_variables(self.layout.env_file)

    def _runs(self) -> bool:
        """Whether all parts run as this layout wants them, and kubectl gets through to a pod."""
        noted = read_variables(self.layout.env_file)
        if not noted.items() >= self.layout.variables().items():
            return False
        for service in self._services:
            if noted.get(service.pid_variable, "") not in map(str, service.pids()):
                return False
        if self._containerd.pid is None or missing_pods(self._containerd):
            return False
        return self._reaches_a_pod(noted["KUBECTL"])

    def _start(self) -> None:
        here = self.layout
        variables = here.variables() | {"KUBECTL": str(find_or_install())}
        self._issue_certificates()
        _say("certificates", str(here.pki))
        self._containerd.up()
        _say("containerd", f"pid {self._containerd.pid}, {here.cri_socket}")
        run_pods(self._containerd)
        where = NODE_NAME if self._containerd.has_network else f"{NODE_NAME}, on the host's network"
        _say("pods", f"{', '.join(pod.name for pod in PODS)} on {where}")
        write_configs(here)
        here.logs.mkdir(exist_ok=True)
        for service in self._services:
            process = service.start()
            self._started.append(process)
            variables[service.pid_variable] = str(process.pid)
            service.wait_until(service.listens, process, LISTEN_TIMEOUT, "does not listen")
            ports = ", ".join(f"{port}" for port in service.ports) or "none"
            _say(service.name, f"pid {process.pid}, ports: {ports}")
        self._edge.wait_until(
            lambda: self._reaches_a_pod(variables["KUBECTL"]),
            self._started[-1],
            CONNECT_TIMEOUT,
            f"does not let kubectl reach pod {PODS[0].name}",
            self._cloud.log,
            self._apiserver.log,
            self._kubectl_log,
        )
        _say("kubectl", f"{variables['KUBECTL']} reaches the pods through the tunnel")
        write_variables(here.env_file, variables)

    def _issue_certificates(self) -> None:
        self.layout.pki.mkdir(parents=True, exist_ok=True)
        issue = (BIN / "cloudstream", "certs", "issue", "--dir", self.layout.pki)
        run(*issue, "--node", NODE_NAME, "--san", "127.0.0.1", "--san", "localhost")

    def _reaches_a_pod(self, kubectl: str) -> bool:
        with self._kubectl_log.open("wb") as log, contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [kubectl, "logs", "--tail=1", PODS[0].name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=ENVIRONMENT | self.layout.variables(),
                timeout=KUBECTL_TIMEOUT,
                check=False,
            )
            return done.returncode == 0 and bool(done.stdout)
        return False

    def _clear(self) -> bool:
        """Remove every trace but the certificates, and say whether there was any."""
        here = self.layout
        files = (here.kubeconfig, here.cloud_config, here.edge_config, here.apiserver_config)
        directories = (here.containerd, here.logs, here.kubectl_cache)
        found = any(path.exists() for path in (here.env_file, *files, *directories))
        for service in reversed(self._services):  # the edge first: nothing redials in vain
            found = service.end() or found
        for process in self._started:
            process.kill()  # one that was started just now could not be told by its command line
            process.wait(STOP_TIMEOUT)
        self._started.clear()
        self._containerd.down()
        for file in (here.env_file, *files):
            file.unlink(missing_ok=True)
        for directory in directories:
            if directory.exists():
                shutil.rmtree(directory)
        leftovers.remove_if_empty(here.directory)
        return found


def _say(part: str, text: str) -> None:
    print(f"{part:<13} {text}", flush=True)
