"""docker-compose.yml: no engine is needed to see that its parts fit together."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

import cloudstream.config
import edgestream.config
from lab.layout import PROJECT


@pytest.fixture
def compose() -> dict[str, Any]:
    text = (PROJECT / "docker-compose.yml").read_text()
    defaults = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    parsed: dict[str, Any] = yaml.safe_load(defaults)
    return parsed


def test_it_is_what_the_compose_specification_allows(compose: dict[str, Any]) -> None:
    parsed = PyCompose.from_json(json.dumps(compose))
    assert {*parsed.service_names()} == {"certs", "cloud", "edge"}
    named = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if not volume.startswith("/")
    }
    assert named == {*compose["volumes"]}


@pytest.mark.parametrize(
    "change",
    [
        {"restrat": "always"},
        {"restart": "sometimes"},
        {"ports": ["stream:10003"]},
        {"depends_on": {"certs": {"condition": "done"}}},
    ],
)
def test_what_it_does_not_allow_is_found(compose: dict[str, Any], change: Any) -> None:
    compose["services"]["cloud"] |= change
    with pytest.raises(ValueError):
        PyCompose.from_json(json.dumps(compose))


def test_services_get_the_configurations_that_are_there(compose: dict[str, Any]) -> None:
    for name, source in (("cloud", "cloudcore"), ("edge", "edgecore")):
        service = compose["services"][name]
        assert service["configs"] == [{"source": source, "target": service["command"][-1]}]
        assert source in compose["configs"]
        assert "pki:/pki:ro" in service["volumes"]


def test_the_image_is_built_from_a_file_that_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        build = service["build"]
        assert (PROJECT / build["context"] / build["dockerfile"]).is_file()


def test_services_can_load_their_configurations(compose: dict[str, Any], tmp_path: Path) -> None:
    cloud_file, edge_file = tmp_path / "cloudcore.yaml", tmp_path / "edgecore.yaml"
    cloud_file.write_text(compose["configs"]["cloudcore"]["content"])
    edge_file.write_text(compose["configs"]["edgecore"]["content"])
    cloud, edge = cloudstream.config.load(cloud_file), edgestream.config.load(edge_file)
    assert cloud.tunnel_port == edge.server_port
    assert edge.tunnel_tls.cert.name == f"edge-{edge.node_name}.crt"
    assert not cloud.settings.lookup.use_kube_api
