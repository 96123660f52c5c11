"""edgecore.yaml as the edge agent reads it."""

import socket
from pathlib import Path

import pytest
import yaml

from edgestream.config import (
    DEFAULT_CONFIG,
    MIN_CONFIG,
    EdgeConfig,
    EdgeSettings,
    load,
)
from streamkit.errors import ConfigInvalid
from streamkit.service.config import TlsFiles, yaml_key

# In the shape that "edgecore --defaultconfig" and "keadm join" give it.
STOCK = """\
apiVersion: edgecore.config.kubeedge.io/v1alpha2
database:
  aliasName: default
  dataSource: /var/lib/kubeedge/edgecore.db
  driverName: sqlite3
kind: EdgeCore
modules:
  dbTest: {enable: false}
  deviceTwin: {enable: true, dmiSockPath: /etc/kubeedge/dmi.sock}
  edgeHub:
    enable: true
    heartbeat: 15
    httpServer: https://192.0.2.10:10002
    rotateCertificates: true
    tlsCaFile: /etc/kubeedge/ca/rootCA.crt
    token: ""
    websocket: {enable: true, handshakeTimeout: 30, server: "192.0.2.10:10000"}
  edgeStream:
    enable: true
    handshakeTimeout: 20
    readDeadline: 16
    server: 192.0.2.10:10004
    tlsTunnelCAFile: /srv/ca/rootCA.crt
    tlsTunnelCertFile: /srv/certs/server.crt
    tlsTunnelPrivateKeyFile: /srv/certs/server.key
    writeDeadline: 17
  edged:
    enable: true
    hostnameOverride: edge-1.lab
    maxContainerCount: -1
    nodeIP: 192.0.2.77
    nodeLabels: {a: b}
    podSandboxImage: kubeedge/pause:3.6
    registerNodeNamespace: default
    rootDirectory: /srv/kubelet
    tailoredKubeletConfig:
      address: 127.0.0.1
      cgroupDriver: systemd
      clusterDNS: [169.254.96.16]
      containerRuntimeEndpoint: unix:///run/crio/crio.sock
      contentType: application/json
      evictionHard: {imagefs.available: 15%, memory.available: 100Mi}
      readOnlyPort: 10355
      syncFrequency: 0s
  eventBus: {enable: true, mqttMode: 2, mqttServerExternal: "tcp://127.0.0.1:1883"}
  metaManager: {enable: true, metaServer: {enable: false}}
  serviceBus: {enable: false, port: 9060}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edgecore.yaml"


def load_text(path: Path, text: str) -> EdgeConfig:
    path.write_text(text)
    return load(path)


def test_a_stock_file_is_read_unchanged(path: Path) -> None:
    assert load_text(path, STOCK) == EdgeConfig(
        server="192.0.2.10:10004",
        tunnel_tls=TlsFiles(
            ca=Path("/srv/ca/rootCA.crt"),
            cert=Path("/srv/certs/server.crt"),
            key=Path("/srv/certs/server.key"),
        ),
        handshake_timeout=20.0,
        read_deadline=16.0,
        write_deadline=17.0,
        node_name="edge-1.lab",
        node_ip="192.0.2.77",
        runtime_endpoint="unix:///run/crio/crio.sock",
        kubelet_address="127.0.0.1",
        kubelet_port=10355,
        root_directory=Path("/srv/kubelet"),
        settings=EdgeSettings(),
    )


def test_our_own_settings(path: Path) -> None:
    text = """
edgestream:
  backend: kubelet
  serverName: cloud.example
  nodeLogs: /var/log
  backoff: {initial: 0.1, maximum: 2}
  deadlines: {criCall: 3, streamingDial: 1.5}
  limits: {maxChannels: 5}
"""
    config = load_text(path, STOCK + text)
    assert config.settings.backend == "kubelet"
    assert config.server_name == "cloud.example"
    assert config.node_logs == Path("/var/log")
    assert config.settings.backoff.initial == 0.1
    assert config.settings.backoff.maximum == 2.0
    assert config.settings.deadlines.cri_call == 3.0
    assert config.settings.deadlines.streaming_dial == 1.5
    assert config.settings.limits.max_channels == 5


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [
        ("10.0.0.1:10004", "10.0.0.1", 10004),
        ("cloud.example:443", "cloud.example", 443),
        ("'[2001:db8::1]:10004'", "2001:db8::1", 10004),
    ],
)
def test_the_cloud_bears_the_name_it_is_dialled_by(
    path: Path, server: str, host: str, port: int
) -> None:
    config = load_text(path, f"modules: {{edgeStream: {{server: {server}}}}}")
    assert (config.server_host, config.server_port, config.server_name) == (host, port, host)


@pytest.mark.parametrize(
    ("edged", "endpoint"),
    [
        ("{}", "unix:///run/containerd/containerd.sock"),
        ("{remoteRuntimeEndpoint: unix:///a.sock}", "unix:///a.sock"),
        (
            (
                "{remoteRuntimeEndpoint: unix:///a.sock,"
                " tailoredKubeletConfig: {containerRuntimeEndpoint: unix:///b.sock}}"
            ),
            "unix:///b.sock",
        ),
    ],
)
def test_where_the_runtime_is(path: Path, edged: str, endpoint: str) -> None:
    assert load_text(path, f"modules: {{edged: {edged}}}").runtime_endpoint == endpoint


@pytest.mark.parametrize(
    ("kubelet", "address", "port"),
    [
        ("{}", "127.0.0.1", 10350),
        ("{readOnlyPort: 10255}", "127.0.0.1", 10255),
        ("{port: 10260}", "127.0.0.1", 10260),
        ("{readOnlyPort: 0, port: 10260}", "127.0.0.1", 10260),
        ("{readOnlyPort: 10255, port: 10260}", "127.0.0.1", 10255),
        ("{address: 0.0.0.0}", "127.0.0.1", 10350),
        ("{address: '::'}", "::1", 10350),
    ],
)
def test_where_the_kubelet_is(path: Path, kubelet: str, address: str, port: int) -> None:
    config = load_text(path, f"modules: {{edged: {{tailoredKubeletConfig: {kubelet}}}}}")
    assert (config.kubelet_address, config.kubelet_port) == (address, port)


def test_a_node_without_a_name_has_the_hosts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Edge-7.Lab")
    assert load_text(path, "").node_name == "edge-7.lab"


def test_a_host_name_that_can_name_no_node(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "edge_7")
    with pytest.raises(ConfigInvalid, match=r"hostnameOverride is not set, .*\"edge_7\""):
        load_text(path, "")


def test_a_name_of_digits_needs_no_quotes(path: Path) -> None:
    assert load_text(path, "modules: {edged: {hostnameOverride: 1001}}").node_name == "1001"


@pytest.mark.parametrize("text", [MIN_CONFIG, DEFAULT_CONFIG])
def test_the_printed_configurations_say_what_an_empty_file_means(path: Path, text: str) -> None:
    assert text.startswith("# edgestream: ")
    assert load_text(path, text) == load_text(path, "")


def test_the_printed_default_shows_every_key() -> None:
    def keys(section: object) -> set[str]:
        if not isinstance(section, dict):
            return set()
        return set(section).union(*(keys(value) for value in section.values()))

    shown = keys(yaml.safe_load(DEFAULT_CONFIG)["edgestream"])
    settings = EdgeSettings().model_dump()
    assert shown == {yaml_key(name) for name in keys(settings)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "modules: {edgeStream: {sever: a}}",
            '1:24: unknown key "modules.edgeStream.sever" (did you mean "server"?)',
        ),
        (
            "modules: {edgeStream: {server: cloud.example}}",
            (
                "1:32: modules.edgeStream.server: should be host:port, such as 10.0.0.1:10004, "
                'not "cloud.example"'
            ),
        ),
        (
            "modules: {edgeStream: {server: 'wss://cloud.example:10004/x'}}",
            (
                "1:32: modules.edgeStream.server: should be host:port, such as 10.0.0.1:10004, "
                'not "wss://cloud.example:10004/x"'
            ),
        ),
        (
            "modules: {edged: {hostnameOverride: 'x;touch /tmp/p'}}",
            (
                '1:37: modules.edged.hostnameOverride: "x;touch /tmp/p" can\'t name a node: '
                'lower-case letters, digits, "-" and "." are allowed'
            ),
        ),
        (
            "modules: {edged: {nodeIP: 10.0.0}}",
            "1:27: modules.edged.nodeIP: '10.0.0' does not appear to be an IPv4 or IPv6 address",
        ),
        (
            "edgestream: {backend: docker}",
            "1:23: edgestream.backend: should be 'cri' or 'kubelet', not 'docker'",
        ),
        (
            "edgestream: {nodeLogs: var/log}",
            (
                "1:24: edgestream.nodeLogs: "
                'should be an absolute path, such as /var/log, not "var/log"'
            ),
        ),
        (
            "edgestream: {backoff: {maximum: 0.1}}",
            "1:14: edgestream.backoff: maximum should not be less than initial",
        ),
        (
            "edgestream: {deadlines: {resumeTimeout: -1}}",
            (
                "1:41: edgestream.deadlines.resumeTimeout: "
                "should be greater than or equal to 0, not -1"
            ),
        ),
        (
            "apiVersion: cloudcore.config.kubeedge.io/v1alpha2",
            (
                "1:13: edgestream reads the EdgeCore file (edgecore.yaml), "
                "and this one has apiVersion: cloudcore.config.kubeedge.io/v1alpha2"
            ),
        ),
    ],
)
def test_problems(path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_text(path, text)
    assert str(caught.value) == f"{path}:{problem}"
