"""The manifests for several replicas fit to CloudCore's Deployment and to the ports in use."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.unit.deploy.manifests import DEPLOY, SIDECAR, Manifest, kustomize, load
from tests.unit.deploy.test_schema import CLOUDCORE, RELEASES

REPLICAS = DEPLOY / "kubernetes" / "replicas"
LABELS = CLOUDCORE["spec"]["selector"]


@pytest.fixture
def deployment(tmp_path: Path) -> Manifest:
    """CloudCore's Deployment with both patches."""
    patches = (SIDECAR, REPLICAS / "cloudcore-replicas.yaml")
    for path in patches:
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "cloudcore.yaml").write_text(yaml.safe_dump(CLOUDCORE))
    kustomization = {
        "resources": ["cloudcore.yaml"],
        "patches": [{"path": path.name} for path in patches],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (built,) = kustomize(tmp_path)
    return built


def policy() -> Any:
    (found,) = load(REPLICAS / "network-policy.yaml")
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_all_of_it_is_valid(release: str, deployment: Manifest) -> None:
    for each in (*kustomize(REPLICAS), deployment, policy()):
        kubernetes_validate.validate(each, release, strict=True)


def test_all_of_it_is_about_cloudcores_pods(deployment: Manifest) -> None:
    built = {each["kind"]: each["spec"] for each in kustomize(REPLICAS)}
    assert built.keys() == {"PodDisruptionBudget", "Service"}
    assert built["PodDisruptionBudget"]["selector"] == LABELS
    assert built["Service"]["selector"] == LABELS["matchLabels"]
    assert policy()["spec"]["podSelector"] == LABELS
    affinity = deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"] == LABELS


def test_replicas_and_api_servers_reach_the_stream_port_and_edges_the_others() -> None:
    to_all, to_some = policy()["spec"]["ingress"]
    assert "from" not in to_all
    assert [each["port"] for each in to_all["ports"]] == [10000, 10001, 10002, 10004]
    assert [each["port"] for each in to_some["ports"]] == [10003]
    assert {"podSelector": LABELS} in to_some["from"]


def test_a_host_is_left_before_its_successor_needs_the_ports(deployment: Manifest) -> None:
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
