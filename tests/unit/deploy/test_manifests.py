"""The manifests: no cluster is needed to see that their parts fit together and to the programs."""

from dataclasses import asdict
from pathlib import Path

import pytest

import cloudstream.config
from cloudstream.iptables.command import add_iptables
from streamkit.service.cli import Parser, service_parser
from tests.unit.deploy.manifests import BASE, DEPLOY, SIDECAR, Manifest, load


def of_kind(kind: str) -> dict[str, Manifest]:
    """The base's objects of one kind, by name."""
    files = load(BASE / "kustomization.yaml")[0]["resources"]
    found = [document for file in files for document in load(BASE / file)]
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


@pytest.fixture(scope="module")
def sidecar() -> Manifest:
    (patch,) = load(SIDECAR)
    spec: Manifest = patch["spec"]["template"]["spec"]
    return spec


def test_every_file_is_yaml_and_every_manifest_is_used() -> None:
    for path in (*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")):
        assert load(path), path
    used = {BASE / name for name in load(BASE / "kustomization.yaml")[0]["resources"]}
    assert {*BASE.glob("*.yaml")} == used | {BASE / "kustomization.yaml"}


def test_every_binding_binds_a_role_that_is_there_to_an_account_that_is() -> None:
    accounts = {*of_kind("ServiceAccount"), "cloudcore"}  # the last one is CloudCore's own
    for kind in ("Role", "ClusterRole"):
        roles, bindings = of_kind(kind), of_kind(f"{kind}Binding")
        assert {each["roleRef"]["name"] for each in bindings.values()} == {*roles}
        for binding in bindings.values():
            assert binding["roleRef"]["kind"] == kind
            for subject in binding["subjects"]:
                assert subject["name"] in accounts
                assert subject["namespace"] == "kubeedge"


def test_the_sidecar_finds_every_file_that_it_reads(sidecar: Manifest, tmp_path: Path) -> None:
    (container,) = sidecar["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "cloudstream"]
    volume = next(each for each in sidecar["volumes"] if each["name"] == "cloudstream")
    paths = {
        f"{mount['mountPath']}/{item['path']}": (source, item["key"])
        for part in volume["projected"]["sources"]
        for source in (part.get("configMap") or part["secret"],)
        for item in source["items"]
    }
    arguments = container["command"][1:]
    config_path = arguments[arguments.index("--config") + 1]
    source, key = paths[config_path]
    file = tmp_path / "cloudcore.yaml"
    file.write_text(of_kind("ConfigMap")[source["name"]]["data"][key])
    config = cloudstream.config.load(file)
    tls = (config.stream_tls, config.tunnel_tls)
    needed = {str(path) for each in tls for path in (each.ca, each.cert, each.key)}
    assert {*needed, str(config.api_client_ca)} <= paths.keys()
    optional = {source["name"] for source, _ in paths.values() if source.get("optional")}
    # The first two come to be when CloudCore first starts, which must not wait for them.
    assert optional == {"casecret", "cloudcoresecret", "cloudstream-client-ca"}
    assert not paths[str(config.api_client_ca)][0].get("optional")
    keys = {key: paths[str(path)][1] for key, path in asdict(config.tunnel_tls).items()}
    assert keys == {"ca": "cadata", "cert": "cloudcoredata", "key": "cloudcorekeydata"}
    probe = container["readinessProbe"]["httpGet"]
    assert f"{probe['host']}:{probe['port']}" == config.settings.admin_address
    assert sidecar["terminationGracePeriodSeconds"] > config.settings.deadlines.drain


def test_the_sidecar_is_on_the_hosts_network(sidecar: Manifest) -> None:
    assert (sidecar["hostNetwork"], sidecar["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")


def test_the_commands_are_understood(sidecar: Manifest) -> None:
    parser, commands = service_parser(
        "cloudstream", "", config="", serve=lambda args: 0, texts=lambda: ("", "")
    )
    add_iptables(commands)
    (manager,) = of_kind("DaemonSet").values()
    for spec in (sidecar, manager["spec"]["template"]["spec"]):
        for container in spec["containers"]:
            program, *arguments = container["command"]
            assert program == "cloudstream"
            assert isinstance(parser, Parser)
            parser.parse_args(arguments)


def test_the_manager_has_the_rights_it_needs_on_its_host() -> None:
    (manager,) = of_kind("DaemonSet").values()
    spec = manager["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["hostNetwork"] is True
    assert spec["serviceAccountName"] in of_kind("ServiceAccount")
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
    assert security["runAsUser"] == 0
    probe = container["readinessProbe"]["httpGet"]
    assert container["command"][-2:] == ["--admin-address", f"{probe['host']}:{probe['port']}"]
    (variable,) = container["env"]
    assert variable["name"] == "HOST_IP"
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "status.hostIP"
    labels = manager["spec"]["template"]["metadata"]["labels"]
    assert manager["spec"]["selector"]["matchLabels"].items() <= labels.items()
    volumes = {each["name"] for each in spec["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes


def test_nothing_runs_with_more_than_it_needs(sidecar: Manifest) -> None:
    (manager,) = of_kind("DaemonSet").values()
    for spec in (sidecar, manager["spec"]["template"]["spec"]):
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert "privileged" not in security
            assert security["capabilities"]["drop"] == ["ALL"]
    assert sidecar["containers"][0]["securityContext"]["runAsNonRoot"] is True
