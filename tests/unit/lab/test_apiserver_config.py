"""The stand-in's configuration file."""

import json
from pathlib import Path

import pytest

from lab.apiserver.config import join_address, load, parse_address
from streamkit.errors import ConfigInvalid

MINIMAL = {
    "tls": {"cert": "server.crt", "key": "/keys/server.key"},
    "clientCA": "ca.crt",
    "kubelet": {"cert": "client.crt", "key": "client.key"},
    "nodes": [{"name": "edge-1", "address": "10.99.0.1", "cri": "run/containerd.sock"}],
}


def write(directory: Path, document: object) -> Path:
    path = directory / "apiserver.json"
    path.write_text(json.dumps(document))
    return path


def test_paths_are_taken_from_the_files_own_directory(tmp_path: Path) -> None:
    config = load(write(tmp_path, MINIMAL))
    assert config.tls.cert == tmp_path / "server.crt"
    assert config.tls.key == Path("/keys/server.key")
    assert config.client_ca == tmp_path / "ca.crt"
    assert config.nodes[0].cri == tmp_path / "run/containerd.sock"
    assert config.kubelet.ca is None
    assert config.nodes[0].port == 10250


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    broken = {**MINIMAL, "listen": "nowhere", "nodes": [{"nam": "edge-1"}]}
    del broken["clientCA"]
    with pytest.raises(ConfigInvalid) as told:
        load(write(tmp_path, broken))
    for place in ("listen", "clientCA", "nodes.0.name", "nodes.0.nam"):
        assert place in str(told.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"none\.json: No such file"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "address"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0))]
)
def test_addresses_are_parsed_and_joined(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert join_address(*address) == text


@pytest.mark.parametrize("text", ["", "localhost", "a:b", "a:65536"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        parse_address(text)
