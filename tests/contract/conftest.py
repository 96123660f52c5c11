import ssl
from dataclasses import dataclass

import pytest

from streamkit.pki.contexts import tunnel_client_context, tunnel_server_context
from streamkit.pki.files import TlsFiles
from streamkit.pki.issue import issue_all


@dataclass(frozen=True)
class Tls:
    """Both ends of a tunnel's TLS, and two clients that are not let in."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    anonymous: ssl.SSLContext
    stranger: ssl.SSLContext


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    pki, elsewhere = tmp_path_factory.mktemp("pki"), tmp_path_factory.mktemp("elsewhere")
    for directory in (pki, elsewhere):
        issue_all(directory, nodes=("edge-1",))

    def files(stem: str) -> TlsFiles:
        return TlsFiles(ca=pki / "ca.crt", cert=pki / f"{stem}.crt", key=pki / f"{stem}.key")

    def client() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(pki / "ca.crt"))

    stranger = client()
    stranger.load_cert_chain(elsewhere / "edge-edge-1.crt", elsewhere / "edge-edge-1.key")
    return Tls(
        tunnel_server_context(files("tunnel")),
        tunnel_client_context(files("edge-edge-1")),
        client(),
        stranger,
    )
