"""Certificate and key files, read with errors that name the file and what is wrong with it.

PEM is what files mostly hold. DER is read too: KubeEdge keeps it in its Secrets ``casecret`` and
``cloudcoresecret``, which a pod may mount as they are.
"""

from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from streamkit.errors import CertInvalid, CertMissing

SigningKey: TypeAlias = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises CertMissing if it does not exist or can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertMissing(f"{path} can't be read ({error.strerror})") from error


def is_der(data: bytes) -> bool:
    """Whether a file holds DER: all that is kept in it begins with a sequence."""
    return data.startswith(b"\x30") and b"-----BEGIN" not in data


def read_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates of a file, in order, at least one. Raises CertMissing, CertInvalid."""
    data = read_bytes(path)
    if not is_der(data) and b"-----BEGIN CERTIFICATE-----" not in data:
        what = "a private key" if b"PRIVATE KEY-----" in data else "no PEM certificate"
        raise CertInvalid(f"{path} holds {what} where a certificate is expected")
    try:
        if is_der(data):
            return [x509.load_der_x509_certificate(data)]
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise CertInvalid(f"{path} holds a certificate that can't be decoded") from error


def read_key(path: Path) -> SigningKey:
    """The private key of a file (PKCS#1, SEC1 or PKCS#8). Raises CertMissing, CertInvalid."""
    data = read_bytes(path)
    if not is_der(data) and b"PRIVATE KEY-----" not in data:
        raise CertInvalid(f"{path} holds no PEM private key")
    try:
        if is_der(data):
            key = serialization.load_der_private_key(data, password=None)
        else:
            key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise CertInvalid(
            f"the private key in {path} is encrypted, and there is nobody to ask for its password",
            hint=f"decrypt it: openssl pkey -in {path} -out FILE",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertInvalid(f"{path} holds a private key that can't be decoded") from error
    if not isinstance(key, SigningKey):
        raise CertInvalid(f"{path} holds a key of a kind that TLS can't use")
    return key


def pair_as_pem(cert: Path, key: Path) -> bytes:
    """Certificates and their private key in one PEM text. Raises CertMissing, CertInvalid."""
    certificates = [
        each.public_bytes(serialization.Encoding.PEM) for each in read_certificates(cert)
    ]
    private = read_key(key).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return b"".join((*certificates, private))


def keys_match(certificate: x509.Certificate, key: SigningKey) -> bool:
    """Whether the certificate was made for that private key."""
    return bool(certificate.public_key() == key.public_key())
