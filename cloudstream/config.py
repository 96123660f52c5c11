"""What the cloud service reads from cloudcore.yaml, KubeEdge's own file.

``modules.cloudStream`` is read as KubeEdge defines it, a few keys of ``commonConfig`` and
``kubeAPIConfig`` besides. Everything that KubeEdge has no key for stands under one top-level key,
``cloudstream``, which CloudCore ignores. ``modules.cloudStream.enable`` is CloudCore's own switch:
it is false where this service takes the job over, so it decides nothing here.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, field_validator, model_validator

from streamkit.service.config import (
    Count,
    Flag,
    Grace,
    ListenAddress,
    PathName,
    PeekSection,
    Port,
    Seconds,
    Section,
    TlsFiles,
    absolute_path,
    load_file,
)


class ApiClientSettings(Section):
    """Who may call the stream port: certificates by common name or by organization, and tokens."""

    ca_file: str = ""
    bearer_tokens: Flag = True
    common_names: tuple[str, ...] = (
        "kube-apiserver-kubelet-client",
        "kube-apiserver",
        "system:kube-apiserver",
        "system:apiserver",
        "kubernetes",
    )
    organizations: tuple[str, ...] = ("system:masters", "kubeadm:cluster-admins")


class LookupSettings(Section):
    """How a request finds its node."""

    use_kube_api: Flag = True


class KubernetesSettings(Section):
    """What the cloud does on the Kubernetes API besides looking things up."""

    publish_kubelet_port: Flag = True
    negotiate_tunnel_port: Flag = True
    advertise_address: str = ""

    @field_validator("advertise_address")
    @classmethod
    def _is_address(cls, text: str) -> str:
        if text:
            ip_address(text)
        return text


def _network(text: str) -> str:
    ip_network(text)
    return text


class EgressSettings(Section):
    """Where API servers come by HTTP CONNECT, and where they may be led to besides edge nodes."""

    socket: Annotated[str, AfterValidator(absolute_path)] = ""
    address: ListenAddress = ""
    relay_to: tuple[Annotated[str, AfterValidator(_network)], ...] = ()

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """``relay_to``, parsed."""
        return tuple(map(ip_network, self.relay_to))


class ReplicaSettings(Section):
    """How a request gets to the replica that holds its node."""

    forward: Flag = True
    addresses: tuple[ListenAddress, ...] = ()


class CloudDeadlines(Section):
    """How long the cloud waits, in seconds."""

    handshake: Seconds = 10.0
    request_head: Seconds = 30.0
    open: Seconds = 30.0
    keep_alive: Seconds = 90.0
    lookup: Seconds = 5.0
    reconnect: Seconds = 2.0
    heartbeat: Seconds = 10.0
    heartbeat_timeout: Seconds = 25.0
    resume_timeout: Grace = 30.0
    close: Seconds = 2.0
    drain: Seconds = 30.0

    @model_validator(mode="after")
    def _heartbeats_fit(self) -> "CloudDeadlines":
        if self.heartbeat_timeout <= self.heartbeat:
            raise ValueError("heartbeatTimeout should be longer than heartbeat")
        return self


class CloudLimits(Section):
    """How much the cloud holds."""

    max_pending_opens: Count = 1000
    channel_buffer_bytes: Count = 4 * 1024 * 1024
    max_head_bytes: Count = 1024 * 1024
    max_message_bytes: Count = 2 * 1024 * 1024


class CloudSettings(Section):
    """The top-level key ``cloudstream``."""

    bind_address: str = ""
    admin_address: ListenAddress = "127.0.0.1:10005"
    api_clients: ApiClientSettings = ApiClientSettings()
    lookup: LookupSettings = LookupSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    egress: EgressSettings = EgressSettings()
    replicas: ReplicaSettings = ReplicaSettings()
    deadlines: CloudDeadlines = CloudDeadlines()
    limits: CloudLimits = CloudLimits()


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """The cloud service's configuration, as ``load`` found it."""

    stream_port: int
    tunnel_port: int
    stream_tls: TlsFiles
    tunnel_tls: TlsFiles
    kubelet_port: int
    kube_master: str
    kube_config: str
    settings: CloudSettings

    @property
    def api_client_ca(self) -> Path:
        """The CA that issues the API servers' client certificates."""
        ca_file = self.settings.api_clients.ca_file
        return Path(ca_file) if ca_file else self.stream_tls.ca


class _CommonConfig(PeekSection):
    tunnel_port: Port = 10350


class _KubeApiConfig(PeekSection):
    master: str = ""
    kube_config: str = ""


class _CloudStream(Section):
    enable: Flag = False
    stream_port: Port = 10003
    tunnel_port: Port = 10004
    tls_stream_ca_file: PathName = "/etc/kubeedge/ca/streamCA.crt"
    tls_stream_cert_file: PathName = "/etc/kubeedge/certs/stream.crt"
    tls_stream_private_key_file: PathName = "/etc/kubeedge/certs/stream.key"
    tls_tunnel_ca_file: PathName = "/etc/kubeedge/ca/rootCA.crt"
    tls_tunnel_cert_file: PathName = "/etc/kubeedge/certs/server.crt"
    tls_tunnel_private_key_file: PathName = "/etc/kubeedge/certs/server.key"

    @model_validator(mode="after")
    def _ports_differ(self) -> "_CloudStream":
        if self.stream_port == self.tunnel_port:
            raise ValueError("streamPort and tunnelPort should differ")
        return self


class _Modules(PeekSection):
    cloud_stream: _CloudStream = _CloudStream()


class _CloudCoreFile(PeekSection):
    common_config: _CommonConfig = _CommonConfig()
    kube_api_config: _KubeApiConfig = _KubeApiConfig()
    modules: _Modules = _Modules()
    cloudstream: CloudSettings = CloudSettings()


def load(path: Path) -> CloudConfig:
    """The configuration in that cloudcore.yaml. Raises ConfigInvalid with every problem found."""
    file = load_file(path, _CloudCoreFile, program="cloudstream", kind="CloudCore")
    stream = file.modules.cloud_stream
    return CloudConfig(
        stream_port=stream.stream_port,
        tunnel_port=stream.tunnel_port,
        stream_tls=TlsFiles(
            ca=Path(stream.tls_stream_ca_file),
            cert=Path(stream.tls_stream_cert_file),
            key=Path(stream.tls_stream_private_key_file),
        ),
        tunnel_tls=TlsFiles(
            ca=Path(stream.tls_tunnel_ca_file),
            cert=Path(stream.tls_tunnel_cert_file),
            key=Path(stream.tls_tunnel_private_key_file),
        ),
        kubelet_port=file.common_config.tunnel_port,
        kube_master=file.kube_api_config.master,
        kube_config=file.kube_api_config.kube_config,
        settings=file.cloudstream,
    )


MIN_CONFIG = """\
# cloudstream: the least that is worth setting. The file may be CloudCore's own cloudcore.yaml;
# with modules.cloudStream.enable false, CloudCore leaves the two ports to cloudstream.
# All keys: cloudstream --defaultconfig

apiVersion: cloudcore.config.kubeedge.io/v1alpha2
kind: CloudCore
modules:
  cloudStream:
    enable: false
    tlsStreamCAFile: /etc/kubeedge/ca/streamCA.crt
    tlsStreamCertFile: /etc/kubeedge/certs/stream.crt
    tlsStreamPrivateKeyFile: /etc/kubeedge/certs/stream.key
    tlsTunnelCAFile: /etc/kubeedge/ca/rootCA.crt
    tlsTunnelCertFile: /etc/kubeedge/certs/server.crt
    tlsTunnelPrivateKeyFile: /etc/kubeedge/certs/server.key
"""

DEFAULT_CONFIG = """\
# cloudstream: every key that it reads, with its default. The file may be CloudCore's own
# cloudcore.yaml: other keys of KubeEdge are ignored here, and CloudCore ignores "cloudstream".

apiVersion: cloudcore.config.kubeedge.io/v1alpha2
kind: CloudCore

commonConfig:
  tunnelPort: 10350  # the kubelet port written into the Node where no other has been negotiated

kubeAPIConfig:
  master: ""         # URL of the API server; "" = from kubeConfig, or the pod's service account
  kubeConfig: ""     # path of a kubeconfig

modules:
  cloudStream:
    enable: false    # CloudCore's switch; false makes CloudCore leave the ports to cloudstream
    streamPort: 10003                                         # API servers call here
    tlsStreamCAFile: /etc/kubeedge/ca/streamCA.crt            # CA of the API servers' certificates
    tlsStreamCertFile: /etc/kubeedge/certs/stream.crt         # what we show to API servers
    tlsStreamPrivateKeyFile: /etc/kubeedge/certs/stream.key
    tunnelPort: 10004                                         # edge nodes dial here
    tlsTunnelCAFile: /etc/kubeedge/ca/rootCA.crt              # CA of the edge nodes' certificates
    tlsTunnelCertFile: /etc/kubeedge/certs/server.crt         # what we show to edge nodes
    tlsTunnelPrivateKeyFile: /etc/kubeedge/certs/server.key

cloudstream:
  bindAddress: ""    # "" = all interfaces, IPv4 and IPv6
  adminAddress: 127.0.0.1:10005  # health and metrics, by plain HTTP, for whoever asks; "" = nowhere
  apiClients:        # who may call the stream port: the name or an organization has to fit
    caFile: ""       # issuer of those client certificates; "" = tlsStreamCAFile
    commonNames:     # CN of the certificate
      - kube-apiserver-kubelet-client
      - kube-apiserver
      - system:kube-apiserver
      - system:apiserver
      - kubernetes
    organizations:   # O of the certificate
      - system:masters
      - kubeadm:cluster-admins
    bearerTokens: true   # others, if the Kubernetes API knows their token and grants what they want
  lookup:
    useKubeAPI: true      # false = find nodes without asking a Kubernetes API (labs)
  kubernetes:
    publishKubeletPort: true   # write the port that API servers dial into each connected Node
    negotiateTunnelPort: true  # agree on that port in the ConfigMap kubeedge/tunnelport
    advertiseAddress: ""       # this host's address there; "" = the one on its default route
  egress:            # for API servers with an EgressSelectorConfiguration of HTTPConnect
    socket: ""       # path of a unix socket to listen at; "" = none
    address: ""      # host:port to listen at, with the stream port's certificate; "" = none
    relayTo: []      # networks to which other connections are relayed, such as 10.96.0.0/12
  replicas:
    forward: true   # pass requests for nodes that another replica holds on to it
    addresses: []   # host:streamPort of the others; [] = those in the ConfigMap kubeedge/tunnelport
  deadlines:              # seconds
    handshake: 10         # TLS, and the edge's registration
    requestHead: 30       # from the connection to the end of the request's head
    open: 30              # how long an edge may take to answer a request
    keepAlive: 90         # how long an idle API server connection stays open
    lookup: 5             # one question to the Kubernetes API
    reconnect: 2          # for a node to come back, before a request to it is refused
    heartbeat: 10         # between two signs of life that the cloud sends
    heartbeatTimeout: 25  # silence after which a tunnel counts as lost
    resumeTimeout: 30     # for which requests outlive a lost tunnel; 0 = they end with it
    close: 2              # the closing handshake of a connection
    drain: 30             # what still runs at shutdown
  limits:
    maxPendingOpens: 1000          # requests that wait for an edge's answer
    channelBufferBytes: 4194304    # held for a slow reader, for each request of a stock edge
    maxHeadBytes: 1048576          # head of an HTTP request or answer
    maxMessageBytes: 2097152       # one message in the tunnel
"""
