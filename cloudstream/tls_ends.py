"""Where the cloud service shows a certificate, and of which files it makes the TLS contexts."""

import ssl
from collections.abc import Callable

from cloudstream.config import CloudConfig
from streamkit.pki.contexts import (
    replica_client_context,
    stream_server_context,
    tunnel_server_context,
)
from streamkit.pki.files import TlsFiles
from streamkit.service.certificates import TlsEnd

Use = Callable[[ssl.SSLContext], None]
"""Takes the context for whatever connects from then on."""


def stream_files(config: CloudConfig) -> TlsFiles:
    """The stream port's key and certificate, with the CA of those who call it."""
    return TlsFiles(config.api_client_ca, config.stream_tls.cert, config.stream_tls.key)


def stream_end(config: CloudConfig, use: Use) -> TlsEnd:
    """The stream port, for API servers and (where requests are passed on) other replicas."""
    files = stream_files(config)
    forwards = config.settings.replicas.forward
    return _stream_end(
        "stream port",
        files,
        lambda: stream_server_context(files, files.ca, trusts_itself=forwards),
        use,
    )


def egress_end(config: CloudConfig, use: Use) -> TlsEnd:
    """The port for CONNECT."""
    files = stream_files(config)
    return _stream_end("egress port", files, lambda: tunnel_server_context(files), use)


def replicas_end(config: CloudConfig, use: Use) -> TlsEnd:
    """Connections to the stream ports of other replicas."""
    files = stream_files(config)
    return _stream_end("connections to replicas", files, lambda: replica_client_context(files), use)


def tunnel_end(config: CloudConfig, use: Use) -> TlsEnd:
    """The tunnel port, for edges."""
    files = config.tunnel_tls
    roles = {"tunnel": files.cert, "tunnel-ca": files.ca}
    return TlsEnd("tunnel port", roles, files.key, lambda: tunnel_server_context(files), use)


def _stream_end(name: str, files: TlsFiles, make: Callable[[], ssl.SSLContext], use: Use) -> TlsEnd:
    roles = {"stream": files.cert, "api-client-ca": files.ca}
    return TlsEnd(name, roles, files.key, make, use)
