"""Issuing: what the certificates say, what is kept, what is refused."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from streamkit.errors import CertError, CertInvalid, CertMissing
from streamkit.pki.inspect import inspect_file
from streamkit.pki.issue import issue_all
from streamkit.pki.pem import read_certificates, read_key


def certificate(path: Path) -> x509.Certificate:
    return read_certificates(path)[0]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "certs" / "lab"


def test_the_whole_set_comes_under_its_names(directory: Path) -> None:
    outcome = issue_all(directory, nodes=["edge-1", "edge-2.lab"])
    stems = ["ca", "stream", "tunnel", "apiserver-client", "edge-edge-1", "edge-edge-2.lab"]
    names = [f"{stem}.{suffix}" for stem in stems for suffix in ("crt", "key")]
    assert [issued.path.name for issued in outcome] == names
    assert not any(issued.kept for issued in outcome)
    assert sorted(path.name for path in directory.iterdir()) == sorted(names)


def test_keys_are_for_their_owner_only(directory: Path) -> None:
    for issued in issue_all(directory):
        mode = stat.S_IMODE(issued.path.stat().st_mode)
        assert mode == (0o600 if issued.path.suffix == ".key" else 0o644)


@pytest.mark.parametrize(
    ("stem", "role", "subject", "purposes"),
    [
        ("ca", "ca", "CN=cloudstream-ca,O=cloudstream", ()),
        (
            "stream",
            "server",
            "CN=cloudstream-stream,O=cloudstream",
            ("serverAuth", "clientAuth"),
        ),
        ("tunnel", "server", "CN=cloudstream-tunnel,O=cloudstream", ("serverAuth",)),
        (
            "apiserver-client",
            "client",
            "CN=kube-apiserver-kubelet-client,O=kubeadm:cluster-admins",
            ("clientAuth",),
        ),
        ("edge-n1", "edge node n1", "CN=system:node:n1,O=system:nodes", ("clientAuth",)),
    ],
)
def test_who_and_what_for(
    directory: Path, stem: str, role: str, subject: str, purposes: tuple[str, ...]
) -> None:
    issue_all(directory, nodes=["n1"])
    (info,) = inspect_file(directory / f"{stem}.crt")
    assert (info.role, info.subject, info.purposes) == (role, subject, purposes)
    assert info.issuer == "CN=cloudstream-ca,O=cloudstream"
    assert info.key_match is True


def test_servers_bear_the_local_names_and_those_asked_for(directory: Path) -> None:
    issue_all(directory, nodes=["n1"], sans=["Cloud.Example", "192.0.2.1", "2001:DB8::1", "*.lab"])
    for stem in ("stream", "tunnel"):
        (info,) = inspect_file(directory / f"{stem}.crt")
        assert info.sans == (
            *("localhost", "127.0.0.1", "::1"),
            *("cloud.example", "192.0.2.1", "2001:db8::1", "*.lab"),
        )
    assert inspect_file(directory / "edge-n1.crt")[0].sans == ()


def test_extensions_say_what_the_certificates_may_do(directory: Path) -> None:
    issue_all(directory)
    ca, leaf = certificate(directory / "ca.crt"), certificate(directory / "stream.crt")

    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)

    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == own.digest
    assert leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    leaf.verify_directly_issued_by(ca)


def test_keys_are_on_the_curve_that_stock_peers_take(directory: Path) -> None:
    issue_all(directory)
    key = read_key(directory / "tunnel.key")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)


def test_validity_begins_in_the_past_and_ends_with_the_ca_at_the_latest(directory: Path) -> None:
    before = datetime.now(UTC)
    issue_all(directory, nodes=["n1"], days=99_999)
    ca, leaf = certificate(directory / "ca.crt"), certificate(directory / "edge-n1.crt")
    assert leaf.not_valid_before_utc < before
    assert leaf.not_valid_after_utc == ca.not_valid_after_utc

    issue_all(directory, nodes=["n2"], days=30)
    leaf = certificate(directory / "edge-n2.crt")
    assert abs(leaf.not_valid_after_utc - before - timedelta(days=30)) < timedelta(minutes=5)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_second_run_keeps_everything(directory: Path) -> None:
    issue_all(directory, nodes=["n1"], sans=["cloud.example"])
    before = contents(directory)
    assert all(issued.kept for issued in issue_all(directory, nodes=["n1"]))
    assert contents(directory) == before


def test_a_new_node_changes_nothing_else(directory: Path) -> None:
    issue_all(directory, nodes=["n1"])
    before = contents(directory)
    fresh = [i.path.name for i in issue_all(directory, nodes=["n1", "n2"]) if not i.kept]
    assert fresh == ["edge-n2.crt", "edge-n2.key"]
    assert before.items() <= contents(directory).items()


def test_a_new_name_renews_the_servers_which_keep_their_old_ones(directory: Path) -> None:
    issue_all(directory, sans=["old.example"])
    fresh = [i.path.name for i in issue_all(directory, sans=["new.example"]) if not i.kept]
    assert fresh == ["stream.crt", "stream.key", "tunnel.crt", "tunnel.key"]
    sans = inspect_file(directory / "tunnel.crt")[0].sans
    assert {"old.example", "new.example", "127.0.0.1"} <= set(sans)


@pytest.mark.parametrize("damage", ["missing key", "foreign key", "rubbish", "other subject"])
def test_what_can_not_be_used_is_issued_again(directory: Path, damage: str) -> None:
    issue_all(directory, nodes=["n1", "n2"])
    cert, key = directory / "edge-n1.crt", directory / "edge-n1.key"
    if damage == "missing key":
        key.unlink()
    elif damage == "foreign key":
        key.write_bytes((directory / "edge-n2.key").read_bytes())
    elif damage == "rubbish":
        cert.write_text("not a certificate")
    else:
        cert.write_bytes((directory / "edge-n2.crt").read_bytes())
        key.write_bytes((directory / "edge-n2.key").read_bytes())
    fresh = [i.path.name for i in issue_all(directory, nodes=["n1", "n2"]) if not i.kept]
    assert fresh == ["edge-n1.crt", "edge-n1.key"]
    assert inspect_file(cert)[0].key_match is True


def test_what_has_expired_is_issued_again(directory: Path) -> None:
    issue_all(directory)
    issue_all(directory, nodes=["n1"], days=0)
    fresh = [i.path.name for i in issue_all(directory, nodes=["n1"]) if not i.kept]
    assert fresh == ["edge-n1.crt", "edge-n1.key"]


def test_another_ca_renews_all_that_the_old_one_issued(directory: Path, tmp_path: Path) -> None:
    issue_all(directory, nodes=["n1"])
    issue_all(tmp_path / "other")
    for name in ("ca.crt", "ca.key"):
        (directory / name).write_bytes((tmp_path / "other" / name).read_bytes())
    outcome = issue_all(directory, nodes=["n1"])
    assert [i.path.name for i in outcome if i.kept] == ["ca.crt", "ca.key"]


def test_a_ca_whose_key_is_missing_or_another_is_left_alone(
    directory: Path, tmp_path: Path
) -> None:
    issue_all(directory)
    before = (directory / "ca.crt").read_bytes()
    (directory / "ca.key").unlink()
    with pytest.raises(CertMissing, match=r"ca\.key can't be read"):
        issue_all(directory)
    issue_all(tmp_path / "other")
    (directory / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(CertInvalid, match=r"ca\.key is not that of .*ca\.crt"):
        issue_all(directory)
    assert (directory / "ca.crt").read_bytes() == before


@pytest.mark.parametrize("name", ["", "Edge", "../x", "x;touch /tmp/p", "a/b", "x" * 53])
def test_names_that_no_node_can_bear_leave_no_trace(directory: Path, name: str) -> None:
    with pytest.raises(CertInvalid, match="can't be the node name"):
        issue_all(directory, nodes=["n1", name])
    assert not directory.exists()


@pytest.mark.parametrize("name", ["", "a b", "cloud_1", "1.2.3.4/24", "a.*"])
def test_names_that_no_host_can_bear(directory: Path, name: str) -> None:
    with pytest.raises(CertInvalid, match="neither a DNS name nor an IP address"):
        issue_all(directory, sans=[name])


def test_a_directory_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CertError, match=r"file can't be written \(File exists\)"):
        issue_all(tmp_path / "file")


def test_no_temporary_file_stays_when_writing_fails(directory: Path) -> None:
    issue_all(directory)
    (directory / "stream.crt").unlink()
    (directory / "stream.crt").mkdir()
    (directory / "stream.crt" / "x").touch()
    with pytest.raises(CertError, match="can't be written"):
        issue_all(directory)
    assert not [path for path in directory.iterdir() if path.name.startswith(".")]
