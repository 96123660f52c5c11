"""What a cluster gets is what its API knows, field by field, in old releases and in new ones."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.unit.deploy.manifests import BASE, DEPLOY, SIDECAR, Manifest, kustomize

EGRESS = DEPLOY / "kubernetes" / "egress"
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


API_SERVER: Manifest = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "kube-apiserver", "namespace": "kube-system"},
    "spec": {
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "containers": [
            {
                "name": "kube-apiserver",
                "image": "registry.k8s.io/kube-apiserver:any",
                "command": ["kube-apiserver", "--advertise-address=10.2.0.12"],
                "volumeMounts": [{"name": "k8s-certs", "mountPath": "/etc/kubernetes/pki"}],
            }
        ],
        "volumes": [{"name": "k8s-certs", "hostPath": {"path": "/etc/kubernetes/pki"}}],
    },
}
"""As much of kubeadm's static pod as the patch meets."""


def patch(directory: Path, manifest: Manifest, *patches: Path) -> Manifest:
    """A manifest with patches, as a kustomization of somebody's own makes it."""
    for each in patches:
        (directory / each.name).write_text(each.read_text())
    (directory / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    kustomization = {
        "resources": ["manifest.yaml"],
        "patches": [{"path": each.name} for each in patches],
        "images": [{"name": "cloudstream", "newName": "registry.example/cs", "newTag": "1"}],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (patched,) = kustomize(directory)
    return patched


@pytest.fixture
def patched(tmp_path: Path) -> Manifest:
    """CloudCore's Deployment with the sidecar."""
    return patch(tmp_path, CLOUDCORE, SIDECAR)


@pytest.mark.parametrize("release", RELEASES)
def test_the_base_is_valid(release: str) -> None:
    for each in kustomize(BASE):
        kubernetes_validate.validate(each, release, strict=True)


@pytest.mark.parametrize("release", RELEASES)
def test_cloudcore_with_the_sidecar_is_valid(patched: Manifest, release: str) -> None:
    kubernetes_validate.validate(patched, release, strict=True)


@pytest.mark.parametrize("release", RELEASES)
def test_what_an_egress_selector_adds_is_valid(tmp_path: Path, release: str) -> None:
    sidecar = patch(tmp_path, CLOUDCORE, SIDECAR, EGRESS / "cloudcore-socket.yaml")
    kubernetes_validate.validate(sidecar, release, strict=True)
    mounts = sidecar["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    names = {"cloudstream", "cloudstream-tmp", "cloudstream-egress"}
    assert {each["name"] for each in mounts} == names
    api_server = patch(tmp_path, API_SERVER, EGRESS / "kube-apiserver-mounts.yaml")
    kubernetes_validate.validate(api_server, release, strict=True)
    (container,) = api_server["spec"]["containers"]
    assert container["command"] == API_SERVER["spec"]["containers"][0]["command"]
    assert len(container["volumeMounts"]) == len(api_server["spec"]["volumes"]) == 3


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
