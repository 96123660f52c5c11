"""The processes that are measured: started, watched, ended."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.client import Connection, client_context, head_of
from streamkit.pki.issue import issue_all

TICK = os.sysconf("SC_CLK_TCK")
START_DEADLINE = 20.0


@dataclass(frozen=True)
class Usage:
    """CPU seconds and resident bytes of a process."""

    cpu: float
    rss: int


@dataclass(frozen=True)
class Process:
    """A process that is measured."""

    pid: int

    def usage(self) -> Usage:
        """What it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        rss = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        cpu = (int(fields[11]) + int(fields[12])) / TICK
        return Usage(cpu, rss * os.sysconf("SC_PAGESIZE"))


@dataclass(frozen=True)
class Peer:
    """Somebody else's cloud and edge, whose start commands the environment gives."""

    stream_port: int
    cloud: Process
    edge: Process


@dataclass(frozen=True)
class Bench:
    """All paths to the same answers."""

    pki: Path
    stream_port: int
    tunnel_port: int
    relay_port: int
    handshake_port: int
    cloud: Process
    edge: Process
    relay: Process
    peer: Peer | None

    @contextlib.contextmanager
    def stalled_log(self) -> Iterator[None]:
        """A client that asks for a large log and reads nothing."""
        with self._open(head_of("GET", "/containerLogs/bench/500000000/c")):
            yield

    @contextlib.contextmanager
    def idle_session(self) -> Iterator[None]:
        """A client that execs something and does nothing."""
        with self._open(head_of("POST", "/exec/bench/echo/c", upgrade=True)):
            yield

    @contextlib.contextmanager
    def _open(self, head: bytes) -> Iterator[None]:
        connection = Connection(self.stream_port, client_context(self.pki))
        connection.send(head)
        connection.read_head()
        try:
            yield
        finally:
            connection.close()


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Bench]:
    """Cloud and scripted edge, and HAProxy in front of a plain origin."""
    pki = directory / "pki"
    issue_all(pki, nodes=("edge-1",))
    stream, tunnel, relay, handshake, origin = (free_port() for _ in range(5))
    cloud_file, edge_file = directory / "cloudcore.yaml", directory / "edgecore.yaml"
    cloud_file.write_text(_cloud_config(pki, stream, tunnel))
    edge_file.write_text(_edge_config(pki, tunnel))
    haproxy_file = directory / "haproxy.cfg"
    haproxy_file.write_text(_haproxy_config(directory, pki, relay, origin, handshake))
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((directory / "bench.log").open("wb"))

        def start(*command: str, **more: str) -> Process:
            child = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **more},
            )
            stack.callback(_end, child)
            return Process(child.pid)

        bin_dir = Path(sys.executable).parent
        cloud = start(str(bin_dir / "cloudstream"), "serve", "--config", str(cloud_file))
        start(sys.executable, "-m", "bench.origin", str(origin), str(pki))
        haproxy = start("haproxy", "-db", "-f", str(haproxy_file))
        for port in (stream, tunnel, relay, handshake, origin):
            _wait_for(port)
        edge = start(sys.executable, "-m", "bench.scripted", str(edge_file))
        peer = _start_peer(start, pki)
        yield Bench(pki, stream, tunnel, relay, handshake, cloud, edge, haproxy, peer)


def _start_peer(start: Callable[..., Process], pki: Path) -> Peer | None:
    """The peer that the environment names, in front of a kubelet that answers as our edge does."""
    commands = [os.environ.get(f"BENCH_PEER_{part}", "") for part in ("CLOUD", "EDGE")]
    if not all(commands):
        return None
    stream, tunnel, kubelet = (free_port() for _ in range(3))
    start(sys.executable, "-m", "bench.origin", str(kubelet))
    _wait_for(kubelet)
    where = {
        "PKI": str(pki),
        "STREAM_PORT": str(stream),
        "TUNNEL_PORT": str(tunnel),
        "KUBELET_PORT": str(kubelet),
    }
    cloud = start("sh", "-c", f"exec {commands[0]}", **where)
    for port in (stream, tunnel):
        _wait_for(port)
    edge = start("sh", "-c", f"exec {commands[1]}", **where)
    return Peer(stream, cloud, edge)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(10)


def _cloud_config(pki: Path, stream: int, tunnel: int) -> str:
    return f"""\
modules:
  cloudStream:
    enable: true
    streamPort: {stream}
    tunnelPort: {tunnel}
    tlsStreamCAFile: {pki}/ca.crt
    tlsStreamCertFile: {pki}/stream.crt
    tlsStreamPrivateKeyFile: {pki}/stream.key
    tlsTunnelCAFile: {pki}/ca.crt
    tlsTunnelCertFile: {pki}/tunnel.crt
    tlsTunnelPrivateKeyFile: {pki}/tunnel.key
cloudstream:
  bindAddress: 127.0.0.1
  adminAddress: ""
  lookup: {{useKubeAPI: false}}
"""


def _edge_config(pki: Path, tunnel: int) -> str:
    return f"""\
modules:
  edgeStream:
    enable: true
    server: 127.0.0.1:{tunnel}
    tlsTunnelCAFile: {pki}/ca.crt
    tlsTunnelCertFile: {pki}/edge-edge-1.crt
    tlsTunnelPrivateKeyFile: {pki}/edge-edge-1.key
  edged:
    hostnameOverride: edge-1
    nodeIP: 127.0.0.1
"""


def _haproxy_config(directory: Path, pki: Path, relay: int, origin: int, handshake: int) -> str:
    pem = directory / "relay.pem"
    pem.write_text((pki / "stream.crt").read_text() + (pki / "stream.key").read_text())
    pem.chmod(0o600)
    return f"""\
global
    nbthread 1
    maxconn 5000
defaults
    mode tcp
    timeout connect 10s
    timeout client 120s
    timeout server 120s
listen relay
    bind 127.0.0.1:{relay} ssl crt {pem}
    server origin 127.0.0.1:{origin} ssl verify none
listen handshakes
    mode http
    timeout http-request 30s
    timeout http-keep-alive 30s
    bind 127.0.0.1:{handshake} ssl crt {pem} ca-file {pki}/ca.crt verify required
    http-request return status 200
"""
