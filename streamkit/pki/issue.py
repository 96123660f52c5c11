"""A small PKI for labs and small installations: one CA, and certificates for the four roles.

The file names in its directory are an interface: ``ca``, ``stream``, ``tunnel``,
``apiserver-client`` and ``edge-<node>``, each with ``.crt`` and ``.key``. Issuing is idempotent: a
certificate that is valid, fits its key and says what is asked for is kept. Keys are ECDSA P-256,
which any TLS 1.2 or 1.3 peer of KubeEdge takes.
"""

import ipaddress
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from streamkit.errors import CertError, CertInvalid
from streamkit.names import is_dns_subdomain
from streamkit.pki.build import Pair, authority_certificate, leaf_certificate, subject_name
from streamkit.pki.inspect import alternative_names
from streamkit.pki.pem import SigningKey, keys_match, read_certificates, read_key

LOCAL_SANS = ("localhost", "127.0.0.1", "::1")
"""What every server certificate is good for, besides the names asked for."""

_CA_DAYS = 3650
_MAX_COMMON_NAME = 64  # RFC 5280, ub-common-name


@dataclass(frozen=True, slots=True)
class Issued:
    """What became of one file."""

    path: Path
    kept: bool


@dataclass(frozen=True, slots=True)
class _Request:
    """What a certificate is to say."""

    stem: str
    common_name: str
    organization: str
    purposes: tuple[x509.ObjectIdentifier, ...]
    sans: tuple[str, ...] = ()

    @property
    def subject(self) -> x509.Name:
        return subject_name(self.common_name, self.organization)


def issue_all(
    directory: Path, *, nodes: Sequence[str] = (), sans: Sequence[str] = (), days: int = 365
) -> list[Issued]:
    """Make what is missing: CA, stream and tunnel server, API server client, a client per node.

    ``sans`` are DNS names and IP addresses for the two server certificates, in addition to the
    local ones and to those that a certificate to be replaced has. Nothing outlives the CA.

    Raises CertInvalid for a name that no node or host can bear, for a CA that has expired and for
    one whose key does not fit (it is never overwritten); CertMissing for a CA without its key;
    CertError for a directory that can't be written.
    """
    requests = _requests(nodes, sans)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        authority, outcome = _ensure_authority(directory)
        for request in requests:
            outcome += _ensure(directory, request, authority, days)
    except OSError as error:
        place = error.filename or directory
        raise CertError(f"{place} can't be written ({error.strerror})") from error
    return outcome


def _requests(nodes: Iterable[str], sans: Iterable[str]) -> list[_Request]:
    server, client = (ExtendedKeyUsageOID.SERVER_AUTH,), (ExtendedKeyUsageOID.CLIENT_AUTH,)
    names = tuple(dict.fromkeys((*LOCAL_SANS, *map(_checked_host, sans))))
    return [
        # Replicas call each other with it.
        _Request("stream", "cloudstream-stream", "cloudstream", server + client, names),
        _Request("tunnel", "cloudstream-tunnel", "cloudstream", server, names),
        _Request(
            "apiserver-client", "kube-apiserver-kubelet-client", "kubeadm:cluster-admins", client
        ),
        *(
            _Request(f"edge-{node}", f"system:node:{node}", "system:nodes", client)
            for node in map(_checked_node, dict.fromkeys(nodes))
        ),
    ]


def _checked_node(name: str) -> str:
    """The name, if it can name a node and a file; it becomes part of both."""
    room = _MAX_COMMON_NAME - len("system:node:")
    if not is_dns_subdomain(name) or len(name) > room:
        raise CertInvalid(
            f'"{name}" can\'t be the node name of a certificate: up to {room} lower-case letters, '
            'digits, "-" and "."'
        )
    return name


def _checked_host(name: str) -> str:
    """The DNS name or IP address in its usual spelling."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        lower = name.lower()
    if not is_dns_subdomain(lower.removeprefix("*.")):
        raise CertInvalid(f'"{name}" is neither a DNS name nor an IP address')
    return lower


def _ensure_authority(directory: Path) -> tuple[Pair, list[Issued]]:
    paths = cert_path, key_path = _paths(directory, "ca")
    if not cert_path.exists() and not key_path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = authority_certificate(key, days=_CA_DAYS)
        _write_pair(paths, certificate, key)
        return Pair(certificate, key), [Issued(path, kept=False) for path in paths]
    certificate, existing_key = read_certificates(cert_path)[0], read_key(key_path)
    if not keys_match(certificate, existing_key):
        raise CertInvalid(f"the private key in {key_path} is not that of {cert_path}")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise CertInvalid(
            f"the CA in {cert_path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}",
            hint=f"move {cert_path} and {key_path} away and issue again: a new CA is made",
        )
    return Pair(certificate, existing_key), [Issued(path, kept=True) for path in paths]


def _ensure(directory: Path, request: _Request, authority: Pair, days: int) -> list[Issued]:
    paths = _paths(directory, request.stem)
    existing = _existing(paths)
    kept = existing is not None and _is_as_wanted(existing, request, authority)
    if not kept:
        sans = request.sans
        if existing is not None and existing.certificate.subject == request.subject:
            sans = tuple(dict.fromkeys((*sans, *alternative_names(existing.certificate))))
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = leaf_certificate(
            request.subject, request.purposes, sans, key=key, authority=authority, days=days
        )
        _write_pair(paths, certificate, key)
    return [Issued(path, kept) for path in paths]


def _existing(paths: tuple[Path, Path]) -> Pair | None:
    """What lies there already; None if it is incomplete or can't be used."""
    try:
        pair = Pair(read_certificates(paths[0])[0], read_key(paths[1]))
    except CertError:
        return None
    return pair if keys_match(pair.certificate, pair.key) else None


def _is_as_wanted(existing: Pair, request: _Request, authority: Pair) -> bool:
    certificate = existing.certificate
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return (
        certificate.subject == request.subject
        and certificate.not_valid_after_utc > datetime.now(UTC)
        and set(alternative_names(certificate)) >= set(request.sans)
        and _purposes(certificate) >= set(request.purposes)
    )


def _purposes(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return set()


def _paths(directory: Path, stem: str) -> tuple[Path, Path]:
    # Not with_suffix: a node's name may have dots.
    return directory / f"{stem}.crt", directory / f"{stem}.key"


def _write_pair(paths: tuple[Path, Path], certificate: x509.Certificate, key: SigningKey) -> None:
    cert_path, key_path = paths
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(key_path, private, mode=0o600)
    _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Replace the file in one step: a reader sees the old content or the new, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
