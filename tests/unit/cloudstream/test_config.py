"""cloudcore.yaml as the cloud service reads it."""

from pathlib import Path

import pytest
import yaml

from cloudstream.config import (
    DEFAULT_CONFIG,
    MIN_CONFIG,
    CloudConfig,
    CloudDeadlines,
    CloudSettings,
    load,
)
from streamkit.errors import ConfigInvalid
from streamkit.service.config import TlsFiles, yaml_key

# In the shape that KubeEdge's chart and "cloudcore --defaultconfig" give it.
STOCK = """\
apiVersion: cloudcore.config.kubeedge.io/v1alpha2
kind: CloudCore
commonConfig:
  tunnelPort: 10351
  monitorServer:
    bindAddress: 127.0.0.1:9091
    enableProfiling: false
featureGates:
  requireAuthorization: false
kubeAPIConfig:
  burst: 200
  contentType: application/vnd.kubernetes.protobuf
  kubeConfig: "/root/.kube/config"
  master: ""
  qps: 100
modules:
  cloudHub:
    advertiseAddress:
    - 192.0.2.10
    dnsNames:
    - ""
    edgeCertSigningDuration: 365
    enable: true
    https: {address: 0.0.0.0, enable: true, port: 10002}
    keepaliveInterval: 30
    nodeLimit: 1000
    tlsCAFile: /etc/kubeedge/ca/rootCA.crt
    tlsCertFile: /etc/kubeedge/certs/edge.crt
    websocket: {address: 0.0.0.0, enable: true, port: 10000}
  cloudStream:
    enable: false
    streamPort: 20003
    tlsStreamCAFile: /srv/ca/streamCA.crt
    tlsStreamCertFile: /srv/certs/stream.crt
    tlsStreamPrivateKeyFile: /srv/certs/stream.key
    tlsTunnelCAFile: /srv/ca/rootCA.crt
    tlsTunnelCertFile: /srv/certs/server.crt
    tlsTunnelPrivateKeyFile: /srv/certs/server.key
    tunnelPort: 20004
  deviceController: {enable: true}
  dynamicController: {enable: true}
  edgeController:
    buffer: {configMapEvent: 1, deletePod: 1024}
    enable: true
    nodeUpdateFrequency: 10
  iptablesManager:
    enable: true
    mode: external
  router: {address: 0.0.0.0, enable: false, port: 9443, restTimeout: 60}
  syncController: {enable: true}
  taskManager: {enable: false}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cloudcore.yaml"


def load_text(path: Path, text: str) -> CloudConfig:
    path.write_text(text)
    return load(path)


def test_a_stock_file_is_read_unchanged_and_its_switch_does_not_matter(path: Path) -> None:
    assert load_text(path, STOCK) == CloudConfig(
        stream_port=20003,
        tunnel_port=20004,
        stream_tls=TlsFiles(
            ca=Path("/srv/ca/streamCA.crt"),
            cert=Path("/srv/certs/stream.crt"),
            key=Path("/srv/certs/stream.key"),
        ),
        tunnel_tls=TlsFiles(
            ca=Path("/srv/ca/rootCA.crt"),
            cert=Path("/srv/certs/server.crt"),
            key=Path("/srv/certs/server.key"),
        ),
        kubelet_port=10351,
        kube_master="",
        kube_config="/root/.kube/config",
        settings=CloudSettings(),
    )


def test_our_own_settings(path: Path) -> None:
    text = """
cloudstream:
  bindAddress: 10.0.0.1
  apiClients: {caFile: /x/client-ca.crt, commonNames: [me], organizations: []}
  lookup: {useKubeAPI: false}
  deadlines: {open: 0.5, requestHead: 3, heartbeat: 1, heartbeatTimeout: 2.5}
  limits: {maxPendingOpens: 7, channelBufferBytes: 65536}
"""
    config = load_text(path, STOCK + text)
    settings = config.settings
    assert settings.bind_address == "10.0.0.1"
    assert settings.api_clients.common_names == ("me",)
    assert settings.api_clients.organizations == ()
    assert config.api_client_ca == Path("/x/client-ca.crt")
    assert settings.lookup.use_kube_api is False
    assert settings.deadlines == CloudDeadlines(
        open=0.5, request_head=3, heartbeat=1, heartbeat_timeout=2.5
    )
    assert settings.limits.max_pending_opens == 7
    assert settings.limits.channel_buffer_bytes == 65536
    assert settings.limits.max_head_bytes == 1024 * 1024


def test_api_clients_are_issued_by_the_stream_ca_unless_told_otherwise(path: Path) -> None:
    assert load_text(path, STOCK).api_client_ca == Path("/srv/ca/streamCA.crt")


@pytest.mark.parametrize("text", [MIN_CONFIG, DEFAULT_CONFIG])
def test_the_printed_configurations_say_what_an_empty_file_means(path: Path, text: str) -> None:
    assert text.startswith("# cloudstream: ")
    assert load_text(path, text) == load_text(path, "")


def test_the_printed_default_shows_every_key() -> None:
    def keys(section: object) -> set[str]:
        if not isinstance(section, dict):
            return set()
        return set(section).union(*(keys(value) for value in section.values()))

    shown = keys(yaml.safe_load(DEFAULT_CONFIG)["cloudstream"])
    settings = CloudSettings().model_dump()
    assert shown == {yaml_key(name) for name in keys(settings)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "modules: {cloudStream: {tunelPort: 1}}",
            '1:25: unknown key "modules.cloudStream.tunelPort" (did you mean "tunnelPort"?)',
        ),
        (
            "modules: {cloudStream: {streamPort: 10004}}",
            "1:11: modules.cloudStream: streamPort and tunnelPort should differ",
        ),
        (
            "modules: {cloudStream: {tlsStreamCertFile: ''}}",
            "1:44: modules.cloudStream.tlsStreamCertFile: should not be empty",
        ),
        (
            "commonConfig: {tunnelPort: 0}",
            "1:28: commonConfig.tunnelPort: should be greater than or equal to 1, not 0",
        ),
        (
            "cloudstream: {deadlines: {heartbeat: 45}}",
            "1:15: cloudstream.deadlines: heartbeatTimeout should be longer than heartbeat",
        ),
        (
            "kind: EdgeCore",
            (
                "1:7: cloudstream reads the CloudCore file (cloudcore.yaml), "
                "and this one has kind: EdgeCore"
            ),
        ),
    ],
)
def test_problems(path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_text(path, text)
    assert str(caught.value) == f"{path}:{problem}"
