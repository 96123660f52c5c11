"""What a cluster gets is what its API knows, field by field, in old releases and in new ones."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.unit.deploy.manifests import BASE, SIDECAR, Manifest, kustomize

RELEASES = ["1.25", "1.31", "1.37"]

CLOUDCORE: Manifest = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "cloudcore", "namespace": "kubeedge"},
    "spec": {
        "selector": {"matchLabels": {"kubeedge": "cloudcore"}},
        "template": {
            "metadata": {"labels": {"kubeedge": "cloudcore"}},
            "spec": {
                "hostNetwork": True,
                "serviceAccountName": "cloudcore",
                "containers": [
                    {
                        "name": "cloudcore",
                        "image": "cloudcore:any",
                        "ports": [{"name": "cloudhub", "containerPort": 10000}],
                        "securityContext": {"privileged": True},
                        "volumeMounts": [
                            {"name": "conf", "mountPath": "/etc/kubeedge/config"},
                            {"name": "certs", "mountPath": "/etc/kubeedge"},
                            {"name": "sock", "mountPath": "/var/lib/kubeedge"},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "conf", "configMap": {"name": "cloudcore"}},
                    {"name": "certs", "secret": {"secretName": "cloudcore"}},
                    {"name": "sock", "hostPath": {"path": "/var/lib/kubeedge"}},
                ],
            },
        },
    },
}
"""The names in KubeEdge's Deployment that the patch meets."""


@pytest.fixture
def patched(tmp_path: Path) -> Manifest:
    """CloudCore's Deployment with the sidecar, as a kustomization of somebody's own makes it."""
    (tmp_path / "sidecar.yaml").write_text(SIDECAR.read_text())
    (tmp_path / "cloudcore.yaml").write_text(yaml.safe_dump(CLOUDCORE))
    kustomization = {
        "resources": ["cloudcore.yaml"],
        "patches": [{"path": "sidecar.yaml"}],
        "images": [{"name": "cloudstream", "newName": "registry.example/cs", "newTag": "1"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (deployment,) = kustomize(tmp_path)
    return deployment


@pytest.mark.parametrize("release", RELEASES)
def test_the_base_is_valid(release: str) -> None:
    for each in kustomize(BASE):
        kubernetes_validate.validate(each, release, strict=True)


@pytest.mark.parametrize("release", RELEASES)
def test_cloudcore_with_the_sidecar_is_valid(patched: Manifest, release: str) -> None:
    kubernetes_validate.validate(patched, release, strict=True)


def test_a_field_that_no_api_knows_is_found(patched: Manifest) -> None:
    patched["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolice"):
        kubernetes_validate.validate(patched, RELEASES[-1], strict=True)


def test_what_a_cluster_gets_has_its_namespace() -> None:
    built = kustomize(BASE)
    assert {"DaemonSet", "ConfigMap", "ClusterRole", "Role"} <= {each["kind"] for each in built}
    for each in built:
        cluster_wide = each["kind"].startswith("ClusterRole")
        assert ("namespace" in each["metadata"]) is not cluster_wide


def test_the_patch_adds_to_cloudcore_and_changes_nothing_of_it(patched: Manifest) -> None:
    before, after = (each["spec"]["template"]["spec"] for each in (CLOUDCORE, patched))
    containers = {each["name"]: each for each in after["containers"]}
    assert containers.pop("cloudcore") == before["containers"][0]
    assert containers.keys() == {"cloudstream"}
    assert containers["cloudstream"]["image"] == "registry.example/cs:1"
    assert {each["name"] for each in before["volumes"]} < {
        each["name"] for each in after["volumes"]
    }
    for volume in before["volumes"]:
        assert volume in after["volumes"]
    assert (after["hostNetwork"], after["serviceAccountName"]) == (True, "cloudcore")
    assert patched["spec"]["selector"] == CLOUDCORE["spec"]["selector"]
