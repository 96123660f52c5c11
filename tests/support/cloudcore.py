"""Parts of a cloudcore.yaml."""

from dataclasses import astuple

from streamkit.pki.files import TlsFiles

_KEYS = ("CAFile", "CertFile", "PrivateKeyFile")


def tls_keys(stream: TlsFiles, tunnel: TlsFiles) -> dict[str, str]:
    """The keys of ``modules.cloudStream`` for the files of both ports."""
    return {
        f"tls{part}{key}": str(path)
        for part, files in (("Stream", stream), ("Tunnel", tunnel))
        for key, path in zip(_KEYS, astuple(files), strict=True)
    }
