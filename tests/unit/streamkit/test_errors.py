import re
from itertools import chain

import pytest

import streamkit.errors as errors
from streamkit.errors import (
    BackendError,
    CertError,
    ChannelError,
    ConfigError,
    ProtocolError,
    RouteError,
    StreamError,
    TunnelError,
    error_of,
)

FAMILIES: dict[type[StreamError], str] = {
    ProtocolError: "KS1",
    TunnelError: "KS2",
    ChannelError: "KS3",
    RouteError: "KS4",
    BackendError: "KS5",
    CertError: "KS6",
    ConfigError: "KS7",
}


def family(root: type[StreamError]) -> list[type[StreamError]]:
    """A class and all below it, of this module alone."""
    below = chain.from_iterable(family(kind) for kind in root.__subclasses__())
    return [root, *(kind for kind in below if kind.__module__ == errors.__name__)]


ALL = family(StreamError)
each_kind = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def test_every_kind_has_a_code_of_its_own() -> None:
    codes = [kind.__dict__.get("code") for kind in ALL]
    assert None not in codes
    assert len(set(codes)) == len(ALL)


@pytest.mark.parametrize("root", FAMILIES, ids=lambda root: root.__name__)
def test_a_code_tells_the_family(root: type[StreamError]) -> None:
    for kind in family(root):
        assert re.fullmatch(FAMILIES[root] + r"\d{3}", kind.code)


def test_every_kind_but_the_root_is_of_one_family() -> None:
    assert sum(len(family(root)) for root in FAMILIES) == len(ALL) - 1
    assert {kind for kind in StreamError.__subclasses__() if kind in ALL} == set(FAMILIES)


@each_kind
def test_what_an_http_caller_is_told_is_an_error(kind: type[StreamError]) -> None:
    status = kind.http_status
    assert status is None or 400 <= status <= 599
    if issubclass(kind, RouteError | TunnelError | ChannelError | BackendError):
        assert status is not None
    assert re.fullmatch(r"([A-Z][a-z]+)+", kind.reason)


@each_kind
def test_an_error_is_its_sentence_and_a_hint(kind: type[StreamError]) -> None:
    error = kind("the sentence")
    assert (str(error), error.sentence, error.hint) == (
        "the sentence",
        "the sentence",
        kind.default_hint,
    )
    assert kind("x", hint="do this").hint == "do this"
    assert kind.__doc__


@each_kind
def test_a_peers_code_names_the_same_error(kind: type[StreamError]) -> None:
    error = error_of(kind.code, "the sentence")
    assert type(error) is kind
    assert str(error) == "the sentence"


@pytest.mark.parametrize("code", ["", "KS9999", "nonsense"])
def test_an_unknown_code_is_a_channels_error(code: str) -> None:
    assert type(error_of(code, "x")) is ChannelError
