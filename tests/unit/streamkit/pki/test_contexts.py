"""TLS contexts, in real handshakes over memory."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.x509.oid import NameOID

from streamkit.errors import CertInvalid, CertMissing
from streamkit.pki.contexts import (
    Identity,
    peer_identity,
    stream_server_context,
    tunnel_client_context,
    tunnel_server_context,
)
from streamkit.pki.files import TlsFiles
from streamkit.pki.issue import issue_all
from streamkit.pki.pem import read_key
from tests.support.der import write_der


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("lab")
    issue_all(directory, nodes=["n1"], sans=["cloud.example"])
    return directory


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("strangers")
    issue_all(directory, nodes=["n1"], sans=["cloud.example"])
    return directory


def files(directory: Path, stem: str) -> TlsFiles:
    return TlsFiles(
        ca=directory / "ca.crt",
        cert=directory / f"{stem}.crt",
        key=directory / f"{stem}.key",
    )


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "cloud.example"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after their handshake. Raises ssl.SSLError as soon as one end refuses."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = set(ends)
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.discard(end)
        if not waiting:
            return ends
    raise AssertionError("the handshake does not end")


def anonymous() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_edge_node_meets_its_cloud(lab: Path, version: ssl.TLSVersion) -> None:
    client_context = tunnel_client_context(files(lab, "edge-n1"))
    client_context.maximum_version = version
    client, server = handshake(tunnel_server_context(files(lab, "tunnel")), client_context)
    assert peer_identity(server.getpeercert()) == Identity("system:node:n1", ("system:nodes",))
    assert peer_identity(client.getpeercert()).common_name == "cloudstream-tunnel"
    assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "http/1.1"
    assert (
        client.version()
        == {
            ssl.TLSVersion.TLSv1_2: "TLSv1.2",
            ssl.TLSVersion.TLSv1_3: "TLSv1.3",
        }[version]
    )


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "localhost"])
def test_the_cloud_is_known_by_its_addresses_too(lab: Path, name: str) -> None:
    server_context = tunnel_server_context(files(lab, "tunnel"))
    client, _ = handshake(server_context, tunnel_client_context(files(lab, "edge-n1")), name)
    assert client.getpeercert()


def test_the_edge_refuses_a_stranger_and_another_name(lab: Path, strangers: Path) -> None:
    client = tunnel_client_context(files(lab, "edge-n1"))
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(tunnel_server_context(files(strangers, "tunnel")), client)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(tunnel_server_context(files(lab, "tunnel")), client, "other.example")


def test_the_edge_refuses_a_client_that_poses_as_the_cloud(lab: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        handshake(
            tunnel_server_context(files(lab, "edge-n1")),
            tunnel_client_context(files(lab, "edge-n1")),
        )


def test_the_tunnel_port_wants_a_certificate_of_its_ca(lab: Path, strangers: Path) -> None:
    server = tunnel_server_context(files(lab, "tunnel"))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(server, anonymous())
    stranger = files(strangers, "edge-n1")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tunnel_client_context(replace(stranger, ca=lab / "ca.crt")))


def test_the_stream_port_takes_callers_without_a_certificate(lab: Path) -> None:
    server_context = stream_server_context(files(lab, "stream"), lab / "ca.crt")
    client, server = handshake(server_context, anonymous())
    assert peer_identity(server.getpeercert()) == Identity("", ())
    assert client.version() == "TLSv1.3"


def test_the_stream_port_verifies_the_certificates_it_is_shown(lab: Path, strangers: Path) -> None:
    server_context = stream_server_context(files(lab, "stream"), lab / "ca.crt")
    _, server = handshake(server_context, tunnel_client_context(files(lab, "apiserver-client")))
    assert peer_identity(server.getpeercert()) == Identity(
        "kube-apiserver-kubelet-client", ("kubeadm:cluster-admins",)
    )
    stranger = replace(files(strangers, "apiserver-client"), ca=lab / "ca.crt")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context, tunnel_client_context(stranger))


def test_api_clients_may_have_a_ca_of_their_own(lab: Path, strangers: Path) -> None:
    server_context = stream_server_context(files(lab, "stream"), strangers / "ca.crt")
    caller = replace(files(strangers, "apiserver-client"), ca=lab / "ca.crt")
    _, server = handshake(server_context, tunnel_client_context(caller))
    assert peer_identity(server.getpeercert()).common_name == "kube-apiserver-kubelet-client"


def test_old_versions_and_ciphers_are_refused(lab: Path) -> None:
    server = stream_server_context(files(lab, "stream"), lab / "ca.crt")
    client = anonymous()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    with pytest.raises(ssl.SSLError, match=r"NO_SHARED_CIPHER|HANDSHAKE_FAILURE"):
        handshake(server, client)
    for context in (server, tunnel_server_context(files(lab, "tunnel"))):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert all(
            cipher["name"].startswith("TLS_")
            or (cipher["name"].startswith("ECDHE-") and "-GCM-" in cipher["name"])
            for cipher in context.get_ciphers()
        )


def test_rsa_certificates_work_with_old_and_new_versions(tmp_path: Path) -> None:
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    for stem in ("tunnel", "edge"):
        cert = authority.issue_cert("cloud.example", key_type=trustme.KeyType.RSA)
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{stem}.crt")
        cert.private_key_pem.write_to_path(tmp_path / f"{stem}.key")
    server_context = tunnel_server_context(files(tmp_path, "tunnel"))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client_context = tunnel_client_context(files(tmp_path, "edge"))
        client_context.maximum_version = version
        client, _ = handshake(server_context, client_context)
        assert client.getpeercert()


def test_an_intermediate_ca_alone_is_trusted(tmp_path: Path) -> None:
    intermediate = trustme.CA().create_child_ca()
    intermediate.cert_pem.write_to_path(tmp_path / "ca.crt")
    for stem in ("tunnel", "edge"):
        cert = intermediate.issue_cert("cloud.example")
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{stem}.crt")
        cert.private_key_pem.write_to_path(tmp_path / f"{stem}.key")
    client, _ = handshake(
        tunnel_server_context(files(tmp_path, "tunnel")),
        tunnel_client_context(files(tmp_path, "edge")),
    )
    assert client.getpeercert()


def test_files_may_be_der_as_in_kubeedges_secrets(lab: Path, tmp_path: Path) -> None:
    server_context = tunnel_server_context(write_der(lab, tmp_path))
    client, server = handshake(server_context, tunnel_client_context(files(lab, "edge-n1")))
    assert peer_identity(client.getpeercert()).common_name == "cloudstream-tunnel"
    assert peer_identity(server.getpeercert()).common_name == "system:node:n1"


def test_damaged_der_is_told(lab: Path, tmp_path: Path) -> None:
    der = write_der(lab, tmp_path)
    for path, what in ((der.ca, "a certificate"), (der.cert, "a certificate"), (der.key, "a p")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(CertInvalid, match=f"{path} holds {what}.* that can't be decoded"):
            tunnel_server_context(der)
        path.write_bytes(whole)


def test_no_connection_is_resumed(lab: Path) -> None:
    server_context = stream_server_context(files(lab, "stream"), lab / "ca.crt")
    client_context = anonymous()
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    client, _ = handshake(server_context, client_context)
    assert client.session is not None
    assert not client.session.has_ticket


def test_of_several_common_names_the_last_counts() -> None:
    subject = (
        (("commonName", "first"), ("organizationName", "a")),
        (("organizationName", "b"),),
        (("commonName", "last"),),
    )
    assert peer_identity({"subject": subject}) == Identity("last", ("a", "b"))
    assert peer_identity({}) == peer_identity(None) == Identity("", ())


@pytest.mark.parametrize("field", ["ca", "cert", "key"])
def test_a_missing_file_is_named(lab: Path, field: str) -> None:
    broken = replace(files(lab, "tunnel"), **{field: lab / "nothing"})
    with pytest.raises(CertMissing, match=r"/nothing can't be read \(No such file or directory\)"):
        tunnel_server_context(broken)


def test_all_that_is_wrong_with_the_files_comes_at_once(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(CertInvalid) as caught:
        tunnel_server_context(files(tmp_path, "x"))
    assert [line.split()[0] for line in str(caught.value).splitlines()] == [
        str(tmp_path / name) for name in ("x.crt", "x.key", "ca.crt")
    ]
    issue_all(tmp_path, nodes=["n1"], days=0)
    with pytest.raises(CertInvalid) as caught:
        tunnel_client_context(replace(files(tmp_path, "edge-n1"), key=lab / "tunnel.key"))
    first, second = str(caught.value).splitlines()
    assert "is not that of" in first
    assert "expired on" in second


def test_a_missing_ca_of_the_api_clients_is_named(lab: Path) -> None:
    with pytest.raises(CertMissing, match="/nothing can't be read"):
        stream_server_context(files(lab, "stream"), lab / "nothing")


def test_swapped_files_are_told(lab: Path) -> None:
    good = files(lab, "edge-n1")
    with pytest.raises(CertInvalid, match=r"n1\.key holds a private key where a certificate"):
        tunnel_client_context(replace(good, cert=good.key))
    with pytest.raises(CertInvalid, match=r"n1\.crt holds no PEM private key"):
        tunnel_client_context(replace(good, key=good.cert))
    with pytest.raises(CertInvalid, match=r"ca\.key holds a private key where a certificate"):
        tunnel_client_context(replace(good, ca=lab / "ca.key"))


def test_a_key_of_another_certificate_is_told(lab: Path) -> None:
    mixed = replace(files(lab, "edge-n1"), key=lab / "tunnel.key")
    with pytest.raises(CertInvalid, match=r"tunnel\.key is not that of .*edge-n1\.crt"):
        tunnel_client_context(mixed)


def test_an_encrypted_key_is_told_and_nobody_is_asked(lab: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        read_key(lab / "tunnel.key").private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CertInvalid, match="is encrypted") as caught:
        tunnel_server_context(replace(files(lab, "tunnel"), key=locked))
    assert "openssl pkey" in caught.value.hint


def test_keys_that_can_not_be_used_are_told(lab: Path, tmp_path: Path) -> None:
    key = tmp_path / "x.key"
    key.write_text("-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n")
    with pytest.raises(CertInvalid, match="can't be decoded"):
        tunnel_server_context(replace(files(lab, "tunnel"), key=key))
    key.write_bytes(
        x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(CertInvalid, match="of a kind that TLS can't use"):
        tunnel_server_context(replace(files(lab, "tunnel"), key=key))


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_keys_load_in_every_usual_form(
    lab: Path, tmp_path: Path, form: serialization.PrivateFormat
) -> None:
    key = tmp_path / "x.key"
    key.write_bytes(
        read_key(lab / "tunnel.key").private_bytes(
            serialization.Encoding.PEM, form, serialization.NoEncryption()
        )
    )
    context = tunnel_server_context(replace(files(lab, "tunnel"), key=key))
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_what_has_expired_is_told_leaf_and_ca_apart(lab: Path, tmp_path: Path) -> None:
    issue_all(tmp_path, nodes=["n1"], days=0)
    expired = files(tmp_path, "edge-n1")
    with pytest.raises(CertInvalid, match=r"edge-n1\.crt expired on \d{4}-\d\d-\d\d$"):
        tunnel_client_context(expired)
    with pytest.raises(CertInvalid, match=r"the CA in .*edge-n1\.crt expired on"):
        tunnel_client_context(replace(files(lab, "edge-n1"), ca=expired.cert))


def test_what_openssl_alone_refuses_is_one_sentence_too(lab: Path, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    short_key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cloud.example")])
    certificate = (
        x509.CertificateBuilder(name, name, short_key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(short_key, hashes.SHA256())
    )
    cert, key = tmp_path / "x.crt", tmp_path / "x.key"
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        short_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(CertInvalid, match=r"^TLS refuses .*x\.crt, .*: EE_KEY_TOO_SMALL$"):
        tunnel_server_context(TlsFiles(ca=lab / "ca.crt", cert=cert, key=key))
