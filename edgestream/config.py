"""What the edge agent reads from edgecore.yaml, KubeEdge's own file.

``modules.edgeStream`` is read as KubeEdge defines it; ``modules.edged`` tells the node's name, its
address, the container runtime, the kubelet's port and its directory. Everything that KubeEdge has
no key for stands under one top-level key, ``edgestream``, which EdgeCore ignores.
``modules.edgeStream.enable`` is EdgeCore's own switch: it is false where this agent takes the job
over, so it decides nothing here.
"""

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, Strict, model_validator

from streamkit.errors import ConfigInvalid
from streamkit.names import is_dns_subdomain
from streamkit.service.config import (
    Count,
    Flag,
    Grace,
    ListenAddress,
    PathName,
    PeekSection,
    Seconds,
    Section,
    TlsFiles,
    absolute_path,
    load_file,
)

DEFAULT_RUNTIME_ENDPOINT = "unix:///run/containerd/containerd.sock"
DEFAULT_KUBELET_PORT = 10350

_PortOrNone = Annotated[int, Strict(), Field(ge=0, le=65535)]


class Backoff(Section):
    """The pause between two attempts to reach the cloud, in seconds; it grows, with jitter."""

    initial: Seconds = 0.3
    maximum: Seconds = 15.0

    @model_validator(mode="after")
    def _grows(self) -> "Backoff":
        if self.maximum < self.initial:
            raise ValueError("maximum should not be less than initial")
        return self


class EdgeDeadlines(Section):
    """How long the edge waits, in seconds."""

    heartbeat: Seconds = 5.0
    resume_timeout: Grace = 30.0
    cri_call: Seconds = 2.0
    streaming_dial: Seconds = 5.0
    close: Seconds = 5.0


class EdgeLimits(Section):
    """How much the edge holds."""

    channel_buffer_bytes: Count = 4 * 1024 * 1024
    max_message_bytes: Count = 2 * 1024 * 1024
    max_channels: Count = 1000


class EdgeSettings(Section):
    """The top-level key ``edgestream``."""

    backend: Literal["cri", "kubelet"] = "cri"
    server_name: str = ""
    admin_address: ListenAddress = ""
    node_logs: Annotated[str, AfterValidator(absolute_path)] = ""
    backoff: Backoff = Backoff()
    deadlines: EdgeDeadlines = EdgeDeadlines()
    limits: EdgeLimits = EdgeLimits()


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """The edge agent's configuration, as ``load`` found it. Times are in seconds."""

    server: str
    tunnel_tls: TlsFiles
    handshake_timeout: float
    read_deadline: float
    write_deadline: float
    node_name: str
    node_ip: str
    runtime_endpoint: str
    kubelet_address: str
    kubelet_port: int
    root_directory: Path
    settings: EdgeSettings

    @property
    def node_logs(self) -> Path | None:
        """The directory whose files ``/logs/`` serves; None if that is off."""
        return Path(self.settings.node_logs) if self.settings.node_logs else None

    @property
    def server_host(self) -> str:
        """The host of ``server``, an IPv6 address without its brackets."""
        return urlsplit(f"//{self.server}").hostname or ""

    @property
    def server_port(self) -> int:
        """The port of ``server``."""
        return urlsplit(f"//{self.server}").port or 443

    @property
    def server_name(self) -> str:
        """The name that the cloud's certificate has to bear."""
        return self.settings.server_name or self.server_host


def _host_and_port(text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        fits = bool(parts.hostname and parts.port) and text == parts.netloc and "@" not in text
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f'should be host:port, such as 10.0.0.1:10004, not "{text}"')
    return text


def _node_name(text: str) -> str:
    if text and not is_dns_subdomain(text):
        raise ValueError(
            f'"{text}" can\'t name a node: lower-case letters, digits, "-" and "." are allowed'
        )
    return text


def _ip_address(text: str) -> str:
    if text:
        ipaddress.ip_address(text)
    return text


def _dialled(address: str) -> str:
    """Where to dial a kubelet that listens on that address."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)


class _KubeletConfig(PeekSection):
    address: str = "127.0.0.1"
    read_only_port: _PortOrNone = 0
    port: _PortOrNone = 0
    container_runtime_endpoint: str = ""


class _Edged(PeekSection):
    hostname_override: Annotated[str, AfterValidator(_node_name)] = ""
    node_ip: Annotated[str, AfterValidator(_ip_address)] = ""
    remote_runtime_endpoint: str = ""
    root_directory: PathName = "/var/lib/kubelet"
    tailored_kubelet_config: _KubeletConfig = _KubeletConfig()


class _EdgeStream(Section):
    enable: Flag = False
    server: Annotated[str, AfterValidator(_host_and_port)] = "127.0.0.1:10004"
    tls_tunnel_ca_file: PathName = "/etc/kubeedge/ca/rootCA.crt"
    tls_tunnel_cert_file: PathName = "/etc/kubeedge/certs/server.crt"
    tls_tunnel_private_key_file: PathName = "/etc/kubeedge/certs/server.key"
    handshake_timeout: Seconds = 30.0
    read_deadline: Seconds = 15.0
    write_deadline: Seconds = 15.0


class _Modules(PeekSection):
    edged: _Edged = _Edged()
    edge_stream: _EdgeStream = _EdgeStream()


class _EdgeCoreFile(PeekSection):
    modules: _Modules = _Modules()
    edgestream: EdgeSettings = EdgeSettings()


def load(path: Path) -> EdgeConfig:
    """The configuration in that edgecore.yaml. Raises ConfigInvalid with every problem found."""
    file = load_file(path, _EdgeCoreFile, program="edgestream", kind="EdgeCore")
    edged, stream = file.modules.edged, file.modules.edge_stream
    kubelet = edged.tailored_kubelet_config
    return EdgeConfig(
        server=stream.server,
        tunnel_tls=TlsFiles(
            ca=Path(stream.tls_tunnel_ca_file),
            cert=Path(stream.tls_tunnel_cert_file),
            key=Path(stream.tls_tunnel_private_key_file),
        ),
        handshake_timeout=stream.handshake_timeout,
        read_deadline=stream.read_deadline,
        write_deadline=stream.write_deadline,
        node_name=edged.hostname_override or _host_name(path),
        node_ip=edged.node_ip,
        runtime_endpoint=kubelet.container_runtime_endpoint
        or edged.remote_runtime_endpoint
        or DEFAULT_RUNTIME_ENDPOINT,
        kubelet_address=_dialled(kubelet.address),
        kubelet_port=kubelet.read_only_port or kubelet.port or DEFAULT_KUBELET_PORT,
        root_directory=Path(edged.root_directory),
        settings=file.edgestream,
    )


def _host_name(path: Path) -> str:
    """The node's name where the file gives none: the host's, in lower case, as KubeEdge has it."""
    name = socket.gethostname().strip().lower()
    try:
        return _node_name(name)
    except ValueError as error:
        raise ConfigInvalid(
            f"{path}: modules.edged.hostnameOverride is not set, and the host's name {error}"
        ) from error


MIN_CONFIG = """\
# edgestream: the least that is worth setting. The file may be EdgeCore's own edgecore.yaml;
# with modules.edgeStream.enable false, EdgeCore leaves the tunnel to edgestream.
# All keys: edgestream --defaultconfig

apiVersion: edgecore.config.kubeedge.io/v1alpha2
kind: EdgeCore
modules:
  edged:
    hostnameOverride: ""  # the node's name; "" = this host's
  edgeStream:
    enable: false
    server: 127.0.0.1:10004  # the cloud's tunnel port
    tlsTunnelCAFile: /etc/kubeedge/ca/rootCA.crt
    tlsTunnelCertFile: /etc/kubeedge/certs/server.crt
    tlsTunnelPrivateKeyFile: /etc/kubeedge/certs/server.key
"""

DEFAULT_CONFIG = """\
# edgestream: every key that it reads, with its default. The file may be EdgeCore's own
# edgecore.yaml: other keys of KubeEdge are ignored here, and EdgeCore ignores "edgestream".

apiVersion: edgecore.config.kubeedge.io/v1alpha2
kind: EdgeCore

modules:
  edged:
    hostnameOverride: ""          # the node's name; "" = this host's, in lower case
    nodeIP: ""                    # told to the cloud; "" = the address that reaches the cloud
    remoteRuntimeEndpoint: ""     # where older files name the container runtime
    rootDirectory: /var/lib/kubelet  # the kubelet's; its filesystem counts as the node's
    tailoredKubeletConfig:
      containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
      address: 127.0.0.1          # of the local kubelet; only the backend "kubelet" dials it
      readOnlyPort: 10350         # its plain-HTTP port; 0 = take port
      port: 0                     # used where readOnlyPort is 0; 0 = 10350
  edgeStream:
    enable: false                 # EdgeCore's switch; false makes EdgeCore leave the tunnel to us
    server: 127.0.0.1:10004       # the cloud's tunnel port, host:port
    tlsTunnelCAFile: /etc/kubeedge/ca/rootCA.crt             # CA of the cloud's certificate
    tlsTunnelCertFile: /etc/kubeedge/certs/server.crt        # this node's certificate
    tlsTunnelPrivateKeyFile: /etc/kubeedge/certs/server.key
    handshakeTimeout: 30          # seconds to reach the cloud and register there
    readDeadline: 15              # seconds of silence after which the tunnel counts as lost
    writeDeadline: 15             # seconds for which the cloud may take nothing

edgestream:
  backend: cri                    # cri = the container runtime; kubelet = a kubelet on this host
  serverName: ""                  # name in the cloud's certificate; "" = the host of server
  adminAddress: ""                # health and metrics, such as 127.0.0.1:10006; "" = nowhere
  nodeLogs: ""                    # a directory to serve at /logs/, such as /var/log; "" = none
  backoff:                        # seconds between two attempts to reach the cloud, with jitter
    initial: 0.3
    maximum: 15
  deadlines:                      # seconds
    heartbeat: 5                  # between two signs of life that the edge sends
    resumeTimeout: 30             # for which requests outlive a lost tunnel; 0 = they end with it
    criCall: 2                    # one call to the container runtime
    streamingDial: 5              # reaching the runtime's streaming server
    close: 5                      # the closing handshake of a connection
  limits:
    channelBufferBytes: 4194304   # held for a slow reader, for each request
    maxMessageBytes: 2097152      # one message in the tunnel
    maxChannels: 1000             # requests at the same time
"""
