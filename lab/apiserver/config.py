"""The stand-in's configuration file: JSON, checked as a whole before anything starts.

::

    {
      "listen": "127.0.0.1:6443",                      port 0: any free one
      "tls": {"cert": "apiserver.crt", "key": "apiserver.key"},
      "clientCA": "ca.crt",                            whose certificates may call
      "tokens": {                                      bearer tokens that may call
        "SECRET": {"user": "alice", "groups": ["system:masters"], "allowed": ["nodes/metrics"]}
      },
      "kubelet": {                                     what the kubelet port is shown
        "cert": "apiserver-client.crt",
        "key": "apiserver-client.key",
        "ca": "ca.crt"                                 absent: its certificate is not verified
      },
      "nodes": [{
        "name": "edge-1",
        "address": "10.99.0.1",                        InternalIP; absent: the node has none
        "port": 10351,                                 daemonEndpoints.kubeletEndpoint.Port
        "dial": "127.0.0.1:10003",                     where to connect instead, as if by DNAT
        "cri": "/run/lab/containerd.sock",             its pods are this node's
        "ready": true,
        "labels": {"node-role.kubernetes.io/edge": ""},
        "declaredFeatures": []
      }],
      "pods": [{"metadata": {"name": "waiting"}, "spec": {"containers": [{"name": "app"}]}}],
      "namespaces": ["default", "kube-system", "kubeedge"],
      "metricsToken": "SECRET"                         absent: no metrics API
    }

Paths are taken from the file's own directory. ``pods`` are Pod objects beside those that CRI
shows; what they leave out is filled in. As with the real API server the node proxy refuses an
``address`` that is not global unicast, such as 127.0.0.1: use ``dial`` to reach a local port.
A token's ``allowed`` lists what a SubjectAccessReview grants, as ``resource/subresource``; members
of ``system:masters`` may do everything, and so may holders of a client certificate. With
``metricsToken``, a bearer token, the nodes' metrics are fetched when ``kubectl top`` asks.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from streamkit.errors import ConfigInvalid

Address = tuple[str, int]


def parse_address(text: str) -> Address:
    """Split ``host:port``; an IPv6 host stands in brackets. ValueError if it is not so."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The opposite of ``parse_address``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _checked_address(text: str) -> str:
    parse_address(text)
    return text


AddressText = Annotated[str, AfterValidator(_checked_address)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class KeyPair(_Part):
    """A certificate file and its key file."""

    cert: Path
    key: Path


class KubeletTls(KeyPair):
    """The client certificate for kubelets, and the CA that theirs must chain to, if any."""

    ca: Path | None = None


class Token(_Part):
    """Who a bearer token stands for."""

    user: str
    groups: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


class NodeConfig(_Part):
    """One Node object and how its kubelet port is reached."""

    name: str
    address: str | None = None
    port: int = 10250
    dial: AddressText | None = None
    cri: Path | None = None
    ready: bool = True
    labels: dict[str, str] = {}
    declared_features: tuple[str, ...] = Field(default=(), alias="declaredFeatures")


class Config(_Part):
    """Everything the stand-in is told; see the module's docstring."""

    listen: AddressText = "127.0.0.1:6443"
    tls: KeyPair
    client_ca: Path = Field(alias="clientCA")
    tokens: dict[str, Token] = {}
    kubelet: KubeletTls
    nodes: tuple[NodeConfig, ...] = ()
    pods: tuple[dict[str, Any], ...] = ()
    namespaces: tuple[str, ...] = ("default", "kube-system", "kubeedge")
    metrics_token: str | None = Field(default=None, alias="metricsToken")


def load(path: Path) -> Config:
    """Read and check a file; raises ConfigInvalid with all of its problems."""
    try:
        config = Config.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise ConfigInvalid(f"{path}: " + "\n".join(problems)) from error
    return _anchored(config, path.resolve().parent)


def _anchored(config: Config, base: Path) -> Config:
    """The same with every path absolute."""
    tls = KeyPair(cert=base / config.tls.cert, key=base / config.tls.key)
    kubelet = KubeletTls(
        cert=base / config.kubelet.cert,
        key=base / config.kubelet.key,
        ca=config.kubelet.ca and base / config.kubelet.ca,
    )
    nodes = tuple(
        node.model_copy(update={"cri": node.cri and base / node.cri}) for node in config.nodes
    )
    changed = {"tls": tls, "kubelet": kubelet, "nodes": nodes, "client_ca": base / config.client_ca}
    return config.model_copy(update=changed)
