"""The tunnel port's files as KubeEdge's Secrets have them."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from streamkit.pki.files import TlsFiles
from streamkit.pki.pem import read_key


def write_der(pki: Path, directory: Path) -> TlsFiles:
    """Those of a PKI in DER, the key in SEC1; every file is readable, as in a pod's volume."""
    der = serialization.Encoding.DER
    paths = TlsFiles(
        *(directory / name for name in ("cadata", "cloudcoredata", "cloudcorekeydata"))
    )
    for name, path in (("ca", paths.ca), ("tunnel", paths.cert)):
        certificate = x509.load_pem_x509_certificate((pki / f"{name}.crt").read_bytes())
        path.write_bytes(certificate.public_bytes(der))
    key = read_key(pki / "tunnel.key").private_bytes(
        der, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    paths.key.write_bytes(key)
    return paths
