"""What certificates say: whose they are, what for, until when, and whether the key fits."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from streamkit.errors import CertError
from streamkit.pki.pem import keys_match, read_certificates, read_key

_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
}
_NODE_PREFIX = "system:node:"


@dataclass(frozen=True, slots=True)
class CertInfo:
    """One certificate of a file. Times are in UTC; ``fingerprint`` is the SHA-256, in hex.

    ``key_match`` is None where no key lies beside the file (same name, ending in ``.key``); it is
    told of a file's first certificate only, since the others are its chain.
    """

    path: Path
    role: str
    subject: str
    issuer: str
    sans: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    purposes: tuple[str, ...]
    is_ca: bool
    key_match: bool | None
    fingerprint: str

    def days_left(self, now: datetime | None = None) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.not_after - (now or datetime.now(UTC))).days


def inspect_file(path: Path) -> list[CertInfo]:
    """All certificates of a file, in order. Raises CertMissing, CertInvalid."""
    return [
        describe(
            certificate, path, key_match=None if index else _fits_key_beside(certificate, path)
        )
        for index, certificate in enumerate(read_certificates(path))
    ]


def describe(certificate: x509.Certificate, path: Path, *, key_match: bool | None) -> CertInfo:
    """What one certificate says."""
    is_ca, purposes = _is_ca(certificate), _purposes(certificate)
    return CertInfo(
        path=path,
        role=_role(certificate, is_ca, purposes),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        sans=alternative_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        purposes=purposes,
        is_ca=is_ca,
        key_match=key_match,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def common_name(name: x509.Name) -> str:
    """The last common name, which is the one that Go's TLS peers see too; "" without one."""
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses that the certificate is good for, as text, in order."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    kinds = (x509.DNSName, x509.IPAddress)
    return tuple(str(name.value) for name in extension.value if isinstance(name, kinds))


def _fits_key_beside(certificate: x509.Certificate, path: Path) -> bool | None:
    key_path = path.with_suffix(".key")
    if not key_path.exists():
        return None
    try:
        return keys_match(certificate, read_key(key_path))
    except CertError:
        return False


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _purposes(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        usage = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value
    except x509.ExtensionNotFound:
        return ()
    if not isinstance(usage, x509.ExtendedKeyUsage):
        return ()
    return tuple(_PURPOSES.get(purpose, purpose.dotted_string) for purpose in usage)


def _role(certificate: x509.Certificate, is_ca: bool, purposes: tuple[str, ...]) -> str:
    """What the certificate is used as; one without purposes may serve as anything."""
    name = common_name(certificate.subject)
    if is_ca:
        return "ca"
    if name.startswith(_NODE_PREFIX):
        return f"edge node {name.removeprefix(_NODE_PREFIX)}"
    if purposes == ("clientAuth",):
        return "client"
    return "server" if alternative_names(certificate) or "serverAuth" in purposes else "any"
