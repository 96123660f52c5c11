"""The files for an API server's egress selector lead to where cloudstream listens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from cloudstream.config import CloudSettings
from tests.unit.deploy.egress_selector import EgressSelectorConfiguration

EGRESS = Path(__file__).resolve().parents[3] / "deploy" / "kubernetes" / "egress"
SOCKET = "/run/cloudstream/egress.sock"


def document(name: str) -> Any:
    return yaml.safe_load((EGRESS / f"{name}.yaml").read_text())


def volume_and_mount(spec: Any) -> tuple[str, str]:
    """Where the host's directory is, and where the container sees it."""
    (volume,) = [each for each in spec["volumes"] if each["name"] == "cloudstream-egress"]
    mounts = spec["containers"][0]["volumeMounts"]
    (mount,) = [each for each in mounts if each["name"] == "cloudstream-egress"]
    return volume["hostPath"]["path"], mount["mountPath"]


@pytest.mark.parametrize("transport", ["socket", "port"])
def test_an_api_server_would_read_it_and_only_the_cluster_is_selected(transport: str) -> None:
    found = EgressSelectorConfiguration.model_validate(document(f"egress-selector-{transport}"))
    (selection,) = found.egressSelections
    assert selection.name == "cluster"
    assert selection.connection.proxyProtocol == "HTTPConnect"


@pytest.mark.parametrize(
    "change",
    [
        lambda tcp: tcp.update(uri=tcp.pop("url")),
        lambda tcp: tcp.update(url="tcp://cloudstream.example:10006"),
        lambda tcp: tcp.update(url="http://cloudstream.example:10006"),
        lambda tcp: tcp.pop("tlsConfig"),
        lambda tcp: tcp["tlsConfig"].pop("clientKey"),
        lambda tcp: tcp["tlsConfig"].update(caBundel="/ca.crt"),
    ],
)
def test_what_an_api_server_would_refuse_is_found(change: Callable[[Any], object]) -> None:
    found = document("egress-selector-port")
    change(found["egressSelections"][0]["connection"]["transport"]["tcp"])
    with pytest.raises(ValidationError):
        EgressSelectorConfiguration.model_validate(found)


def test_both_ends_meet_at_the_socket() -> None:
    (selection,) = document("egress-selector-socket")["egressSelections"]
    assert selection["connection"]["transport"]["uds"]["udsName"] == SOCKET
    assert CloudSettings.model_validate({"egress": {"socket": SOCKET}}).egress.socket == SOCKET
    cloud = document("cloudcore-socket")["spec"]["template"]["spec"]
    api_server = document("kube-apiserver-mounts")["spec"]
    here = (str(Path(SOCKET).parent),) * 2
    assert volume_and_mount(cloud) == volume_and_mount(api_server) == here


def test_the_port_is_reached_by_tls_with_a_certificate() -> None:
    (selection,) = document("egress-selector-port")["egressSelections"]
    tcp = selection["connection"]["transport"]["tcp"]
    assert tcp["url"].startswith("https://")
    assert tcp["tlsConfig"].keys() == {"caBundle", "clientCert", "clientKey"}
