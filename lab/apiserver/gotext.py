"""Transport faults in the words of Go's libraries, which are the words that users see."""

import errno
import os
import ssl

NOT_TLS = "tls: first record does not look like a TLS handshake"

_QUOTED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}

_ALERTS = {
    "UNKNOWN_CA": "unknown certificate authority",
    "CERTIFICATE_EXPIRED": "expired certificate",
    "CERTIFICATE_REVOKED": "revoked certificate",
    "CERTIFICATE_UNKNOWN": "unknown certificate",
}
_VERIFY_UNTRUSTED = {18, 19, 20, 21}
_VERIFY_DATES = {9, 10}
_VERIFY_PURPOSE = 26


def quote(text: str) -> str:
    """The text in double quotes, with what can't be printed escaped."""
    return '"' + "".join(map(_quote_one, text)) + '"'


def _quote_one(character: str) -> str:
    if character in _QUOTED:
        return _QUOTED[character]
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def pooled_words(words: str) -> str:
    """A fault of a connection, as told by the HTTP client that pools them."""
    if words.startswith("malformed HTTP"):
        return f"net/http: HTTP/1.x transport connection broken: {words}"
    return words


def dial_fault(error: OSError, address: str) -> str:
    """A TCP connection to ``host:port`` that could not be made."""
    if isinstance(error, TimeoutError):
        return f"dial tcp {address}: i/o timeout"
    words = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
    return f"dial tcp {address}: connect: {words}"


def stream_fault(error: OSError, local: str, remote: str, *, verb: str = "read") -> str:
    """A connection that broke, in the handshake or later."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_verify_words(error, remote)}"
    if isinstance(error, ssl.SSLError):
        return _tls_words(error)
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        words = os.strerror(error.errno).lower()
        return f"{verb} tcp {local}->{remote}: {verb}: {words}"
    return "EOF"


def _tls_words(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    version, alert, name = reason.partition("_ALERT_")
    if alert and version.startswith(("TLSV", "SSLV")):
        return f"remote error: tls: {_ALERTS.get(name, name.lower().replace('_', ' '))}"
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return NOT_TLS
    return f"tls: {reason.lower().replace('_', ' ')}"


def _verify_words(error: ssl.SSLCertVerificationError, remote: str) -> str:
    if error.verify_code in _VERIFY_UNTRUSTED:
        return "certificate signed by unknown authority"
    if error.verify_code in _VERIFY_DATES:
        return "certificate has expired or is not yet valid"
    if error.verify_code == _VERIFY_PURPOSE:
        return "certificate specifies an incompatible key usage"
    host = remote.rpartition(":")[0]
    return f"cannot validate certificate for {host} because it doesn't contain any IP SANs"
