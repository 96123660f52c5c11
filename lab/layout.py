"""Where the lab's things are: directories, files, addresses."""

import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lab.programs import LabError

PROJECT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
NODE_NAME, NODE_IP = "edge-1", "192.0.2.1"
DEFAULT_PORTS = {"STREAM_PORT": 10003, "TUNNEL_PORT": 10004, "APISERVER_PORT": 6443}


@dataclass(frozen=True, slots=True)
class Layout:
    """A lab's directory and its ports; all else follows from them."""

    directory: Path
    stream_port: int
    tunnel_port: int
    apiserver_port: int

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Self:
        """Read LAB_DIR and the three ports, each with its default; LabError if one is no port."""
        directory = Path(variables.get("LAB_DIR") or PROJECT / ".lab").resolve()
        ports = {name: _port(name, variables.get(name)) for name in DEFAULT_PORTS}
        if len(set(ports.values())) < len(ports):
            raise LabError(f"{', '.join(ports)} have to differ")
        return cls(directory, *ports.values())

    @property
    def pki(self) -> Path:
        """Keys and certificates; with the default LAB_DIR they are in the project's certs/lab."""
        default = (PROJECT / ".lab").resolve()
        return PROJECT / "certs" / "lab" if self.directory == default else self.directory / "certs"

    @property
    def containerd(self) -> Path:
        """All that belongs to the private containerd."""
        return self.directory / "containerd"

    @property
    def cri_socket(self) -> Path:
        """Where the private containerd listens."""
        return self.containerd / "containerd.sock"

    @property
    def logs(self) -> Path:
        """The logs of the services and of the stand-in."""
        return self.directory / "log"

    @property
    def env_file(self) -> Path:
        """What ``lab-up`` writes for others to read."""
        return self.directory / "env"

    @property
    def kubeconfig(self) -> Path:
        """For kubectl, and for the cloud service."""
        return self.directory / "kubeconfig"

    @property
    def kubectl_cache(self) -> Path:
        """What kubectl remembers of the stand-in; in no home directory, so that it goes away."""
        return self.directory / "kubectl-cache"

    @property
    def cloud_config(self) -> Path:
        """The cloud service's cloudcore.yaml."""
        return self.directory / "cloudcore.yaml"

    @property
    def edge_config(self) -> Path:
        """The edge agent's edgecore.yaml."""
        return self.directory / "edgecore.yaml"

    @property
    def apiserver_config(self) -> Path:
        """The stand-in's configuration."""
        return self.directory / "apiserver.json"

    def variables(self) -> dict[str, str]:
        """What ``env_file`` tells before any process runs."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.kubectl_cache),
            "STREAM_ADDR": f"{HOST}:{self.stream_port}",
            "TUNNEL_ADDR": f"{HOST}:{self.tunnel_port}",
            "APISERVER_ADDR": f"{HOST}:{self.apiserver_port}",
            "PKI_DIR": str(self.pki),
            "CLOUD_CONFIG": str(self.cloud_config),
            "EDGE_CONFIG": str(self.edge_config),
            "CRI_SOCKET": str(self.cri_socket),
            "NODE_NAME": NODE_NAME,
            "NODE_IP": NODE_IP,
        }

    def require_free_ports(self) -> None:
        """Raise LabError, naming port and variable, if a port is taken."""
        ports = (self.stream_port, self.tunnel_port, self.apiserver_port)
        for variable, port in zip(DEFAULT_PORTS, ports, strict=True):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise LabError(
                        f"port {port} is taken ({error.strerror}): free it, or choose another with"
                        f" {variable}=..."
                    ) from error


def write_variables(path: Path, variables: Mapping[str, str]) -> None:
    """Write KEY=value lines that a shell can source; replaces the file at once."""
    lines = [f"{key}={shlex.quote(value)}\n" for key, value in variables.items()]
    new = path.with_suffix(".new")
    new.write_text("".join(lines))
    new.replace(path)


def read_variables(path: Path) -> dict[str, str]:
    """Read such a file; nothing if there is none."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {key: "".join(shlex.split(value)) for key, _, value in pairs}


def _port(variable: str, text: str | None) -> int:
    if not text:
        return DEFAULT_PORTS[variable]
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise LabError(f"{variable}={text} is no port")
    return int(text)
