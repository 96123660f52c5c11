import pytest

from streamkit.errors import (
    HandshakeRejected,
    HeartbeatTimeout,
    LocalProtocolError,
    MalformedMessage,
    MessageTooLarge,
    NodeIdentityMismatch,
    StreamError,
    TunnelClosed,
    TunnelReplaced,
)
from streamkit.session.close_codes import CloseCode, close_code_of, close_reason_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TunnelReplaced("x"), 4001),
        (HandshakeRejected("x"), 4003),
        (NodeIdentityMismatch("x"), 4003),
        (HeartbeatTimeout("x"), 4008),
        (MalformedMessage("x"), 1002),
        (MessageTooLarge("x"), 1009),
        (LocalProtocolError("x"), 1011),
        (TunnelClosed("x"), 1001),
        (StreamError("x"), 1001),
    ],
)
def test_each_error_has_its_code(error: StreamError, code: int) -> None:
    assert close_code_of(error) == code


def test_codes_are_those_that_a_peer_accepts() -> None:
    # RFC 6455 §7.4: an end may send these of the standard codes, and 3000-4999.
    for code in CloseCode:
        assert code in (1001, 1002, 1009, 1011) or 4000 <= code <= 4999


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("short", "short"),
        ("x" * 200, "x" * 123),
        ("\u00e9" * 100, "\u00e9" * 61),
        ("caf\udce9", "caf?"),
    ],
)
def test_a_reason_fits_a_close_frame_whole_characters_only(sentence: str, reason: str) -> None:
    assert close_reason_of(StreamError(sentence)) == reason
    assert len(reason.encode()) <= 123
