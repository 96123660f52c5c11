"""Faults in Go's words."""

import errno
import ssl

import pytest

from lab.apiserver.gotext import dial_fault, pooled_words, quote, stream_fault

REMOTE, LOCAL = "10.99.0.1:10351", "127.0.0.1:5000"


def test_quoting_escapes_what_cannot_be_printed() -> None:
    assert quote('a"b\\\n\x00é边') == '"a\\"b\\\\\\n\\x00é边"'


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "no"), "connect: connection refused"),
        (OSError(errno.ENETUNREACH, "no"), "connect: network is unreachable"),
        (OSError(errno.EHOSTUNREACH, "no"), "connect: no route to host"),
        (TimeoutError(), "i/o timeout"),
    ],
)
def test_dial_faults(error: OSError, words: str) -> None:
    assert dial_fault(error, REMOTE) == f"dial tcp {REMOTE}: {words}"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ConnectionResetError(errno.ECONNRESET, "x"),
            f"read tcp {LOCAL}->{REMOTE}: read: connection reset by peer",
        ),
        (ConnectionResetError("lost"), "EOF"),
    ],
)
def test_stream_faults(error: OSError, words: str) -> None:
    assert stream_fault(error, LOCAL, REMOTE) == words


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "remote error: tls: unknown certificate authority"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "remote error: tls: certificate required"),
        ("NO_SHARED_CIPHER", "tls: no shared cipher"),
        ("WRONG_VERSION_NUMBER", "tls: first record does not look like a TLS handshake"),
    ],
)
def test_tls_faults(reason: str, words: str) -> None:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    assert stream_fault(error, LOCAL, REMOTE) == words


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (19, "certificate signed by unknown authority"),
        (10, "certificate has expired or is not yet valid"),
        (26, "certificate specifies an incompatible key usage"),
        (
            64,
            "cannot validate certificate for 10.99.0.1 because it doesn't contain any IP SANs",
        ),
    ],
)
def test_certificate_faults(code: int, words: str) -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code = code
    told = stream_fault(error, LOCAL, REMOTE)
    assert told == f"tls: failed to verify certificate: x509: {words}"


def test_the_pooling_client_says_more_of_a_malformed_answer() -> None:
    assert pooled_words('malformed HTTP response "x"').startswith("net/http: HTTP/1.x transport")
    assert pooled_words("EOF") == "EOF"
