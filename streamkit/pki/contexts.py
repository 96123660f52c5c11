"""TLS contexts for the three ends: stream server, tunnel server, tunnel client.

Files are checked before they are loaded, since OpenSSL's own words for a bad file ("PEM lib") help
nobody, and it would ask the terminal for the password of an encrypted key.
"""

import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from streamkit.errors import CertError, CertInvalid
from streamkit.pki.files import TlsFiles
from streamkit.pki.pem import (
    is_der,
    keys_match,
    pair_as_pem,
    read_bytes,
    read_certificates,
    read_key,
)

T = TypeVar("T")

_TLS12_CIPHERS = "ECDHE+AESGCM"
_ALPN = ["http/1.1"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified peer is; a peer without a certificate has an empty name."""

    common_name: str
    organizations: tuple[str, ...]


def stream_server_context(
    files: TlsFiles, client_ca: Path, *, trusts_itself: bool = False
) -> ssl.SSLContext:
    """What the stream port shows to API servers.

    A client certificate is optional, since a caller may bring a token instead, but one that does
    not chain to ``client_ca`` fails the handshake. With ``trusts_itself`` a client may also show
    the very certificate of this server. Raises CertMissing, CertInvalid.
    """
    context = _server_context(files, client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    if trusts_itself:
        _trust_own(context, files)
    return context


def replica_client_context(files: TlsFiles) -> ssl.SSLContext:
    """What a replica calls another one's stream port with: its own stream certificate.

    The other's has to be of the same CA, or the same one. No name is asked for, since replicas are
    called by addresses that their certificates need not have: the caller of this compares
    identities. Raises CertMissing, CertInvalid.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    _load(context, files, files.ca)
    _trust_own(context, files)
    return context


def own_identity(files: TlsFiles) -> Identity:
    """Whom the certificate of these files names. Raises CertMissing, CertInvalid."""
    subject = read_certificates(files.cert)[0].subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    organizations = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Identity(names[-1] if names else "", tuple(str(each.value) for each in organizations))


def _trust_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    own = read_certificates(files.cert)[0]
    context.load_verify_locations(cadata=own.public_bytes(Encoding.DER))


def tunnel_server_context(files: TlsFiles) -> ssl.SSLContext:
    """What a port shows whose callers need a certificate: the tunnel port, that for CONNECT.

    Raises CertMissing, CertInvalid.
    """
    context = _server_context(files, files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def tunnel_client_context(files: TlsFiles) -> ssl.SSLContext:
    """What an edge node dials the cloud with: it verifies the cloud's chain and its name.

    Raises CertMissing, CertInvalid.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    _load(context, files, files.ca)
    return context


def combined(problems: Sequence[CertError]) -> CertError:
    """One error for all of them: the only one, or one with a line for each."""
    return problems[0] if len(problems) == 1 else CertInvalid("\n".join(map(str, problems)))


def peer_identity(peercert: Mapping[str, object] | None) -> Identity:
    """The subject of a peer, from ``ssl_object.getpeercert()``.

    Of several common names the last one counts, as for Go's TLS. The names are only as good as the
    verification: a context that verifies nobody yields an empty mapping, hence an empty identity.
    """
    name, organizations = "", []
    subject = (peercert or {}).get("subject", ())
    for part in subject if isinstance(subject, tuple) else ():
        for key, value in part:
            if key == "commonName":
                name = value
            elif key == "organizationName":
                organizations.append(value)
    return Identity(name, tuple(organizations))


def _server_context(files: TlsFiles, client_ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A resumed connection would skip the verification of its client, so there are no tickets.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _load(context, files, client_ca)
    return context


def _load(context: ssl.SSLContext, files: TlsFiles, ca: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS12_CIPHERS)
    context.set_alpn_protocols(_ALPN)
    # Any certificate in the CA file is trusted, an intermediate one too, as Go's TLS has it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _check(files, ca)
    try:
        _load_pair(context, files)
        if is_der(authorities := read_bytes(ca)):
            context.load_verify_locations(cadata=authorities)
        else:
            context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error
        raise CertInvalid(f"TLS refuses {files.cert}, {files.key} or {ca}: {reason}") from error


def _load_pair(context: ssl.SSLContext, files: TlsFiles) -> None:
    if not is_der(read_bytes(files.cert)) and not is_der(read_bytes(files.key)):
        context.load_cert_chain(files.cert, files.key, password="")
        return
    # OpenSSL reads PEM files only; this one is in memory, where nobody else finds the key.
    with open(os.memfd_create("tls", os.MFD_CLOEXEC), "wb") as memory:
        memory.write(pair_as_pem(files.cert, files.key))
        memory.flush()
        context.load_cert_chain(f"/proc/self/fd/{memory.fileno()}", password="")


def _check(files: TlsFiles, ca: Path) -> None:
    """Raise what is wrong with the files: one error, or one with a line for each of several."""
    problems: list[CertError] = []

    def attempt(read: Callable[[Path], T], path: Path) -> T | None:
        try:
            return read(path)
        except CertError as error:
            problems.append(error)
            return None

    certificates = attempt(read_certificates, files.cert)
    key = attempt(read_key, files.key)
    authorities = attempt(read_certificates, ca)
    if certificates and key and not keys_match(certificates[0], key):
        text = f"the private key in {files.key} is not that of {files.cert}"
        problems.append(CertInvalid(text))
    if certificates and (day := _expired(certificates[:1])):
        problems.append(CertInvalid(f"{files.cert} expired on {day}"))
    if authorities and (day := _expired(authorities)):
        problems.append(CertInvalid(f"the CA in {ca} expired on {day}"))
    if problems:
        raise combined(problems)


def _expired(certificates: Sequence[x509.Certificate]) -> str:
    """The day when the last of them expired; "" while there is one that has not."""
    end = max(certificate.not_valid_after_utc for certificate in certificates)
    return f"{end:%Y-%m-%d}" if end < datetime.now(UTC) else ""
