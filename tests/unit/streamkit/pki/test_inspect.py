"""Inspecting: what is told about a file's certificates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from streamkit.errors import CertInvalid, CertMissing
from streamkit.pki.inspect import inspect_file
from streamkit.pki.issue import issue_all


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    issue_all(tmp_path, nodes=["n1"], days=10)
    return tmp_path


def test_a_certificate_is_told_in_full(directory: Path) -> None:
    (info,) = inspect_file(directory / "edge-n1.crt")
    raw = x509.load_pem_x509_certificate((directory / "edge-n1.crt").read_bytes())
    assert info.path == directory / "edge-n1.crt"
    assert info.subject == "CN=system:node:n1,O=system:nodes"
    assert info.not_before == raw.not_valid_before_utc
    assert info.not_after == raw.not_valid_after_utc
    assert info.fingerprint == raw.fingerprint(hashes.SHA256()).hex()
    assert not info.is_ca


def test_days_left_are_whole_and_negative_once_it_is_over(directory: Path) -> None:
    (info,) = inspect_file(directory / "edge-n1.crt")
    assert info.days_left() == 9
    assert info.days_left(info.not_after - timedelta(days=3, hours=1)) == 3
    assert info.days_left(info.not_after + timedelta(minutes=1)) == -1
    assert info.days_left(datetime(2000, 1, 1, tzinfo=UTC)) > 9000


def test_every_block_of_a_file_is_told_and_the_key_belongs_to_the_first(directory: Path) -> None:
    chain = directory / "stream.crt"
    chain.write_bytes(chain.read_bytes() + (directory / "ca.crt").read_bytes())
    leaf, ca = inspect_file(chain)
    assert (leaf.role, leaf.key_match) == ("server", True)
    assert (ca.role, ca.key_match) == ("ca", None)


@pytest.mark.parametrize(
    ("key", "match"), [(None, None), ("tunnel.key", False), ("stream.crt", False)]
)
def test_the_key_beside_it(directory: Path, key: str | None, match: bool | None) -> None:
    beside = directory / "stream.key"
    if key is None:
        beside.unlink()
    else:
        beside.write_bytes((directory / key).read_bytes())
    assert inspect_file(directory / "stream.crt")[0].key_match is match


def test_a_certificate_without_purposes_may_serve_as_anything(tmp_path: Path) -> None:
    path = tmp_path / "x.crt"
    trustme.CA().cert_pem.write_to_path(path)
    (info,) = inspect_file(path)
    assert (info.role, info.purposes, info.sans) == ("ca", (), ())


def test_a_certificate_for_both_ends_is_a_server(tmp_path: Path) -> None:
    path = tmp_path / "x.crt"
    trustme.CA().issue_cert("cloud.example", "192.0.2.1").cert_chain_pems[0].write_to_path(path)
    (info,) = inspect_file(path)
    assert info.role == "server"
    assert info.sans == ("cloud.example", "192.0.2.1")
    assert "serverAuth" in info.purposes


def test_files_without_a_certificate(directory: Path) -> None:
    with pytest.raises(CertMissing, match="No such file"):
        inspect_file(directory / "nothing.crt")
    with pytest.raises(CertInvalid, match="holds a private key where a certificate is expected"):
        inspect_file(directory / "ca.key")
    (directory / "x.crt").write_text("hello")
    with pytest.raises(CertInvalid, match="holds no PEM certificate"):
        inspect_file(directory / "x.crt")
    (directory / "x.crt").write_text(
        "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"
    )
    with pytest.raises(CertInvalid, match="can't be decoded"):
        inspect_file(directory / "x.crt")
