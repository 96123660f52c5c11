"""The golden vectors of ``proto/vectors``."""

import json
from pathlib import Path
from typing import Any

import pytest

from streamkit.wire.exchange import RequestHead

_DIRECTORY = Path(__file__).parents[4] / "proto" / "vectors"

V1 = json.loads((_DIRECTORY / "v1.json").read_text())


def each(*groups: str) -> pytest.MarkDecorator:
    """Run a test with each vector of these groups."""
    vectors = [vector for group in groups for vector in V1[group]]
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["name"])


def data_of(vector: dict[str, Any]) -> bytes:
    """What follows the header."""
    return bytes.fromhex(vector["hex"]) if "hex" in vector else vector["text"].encode()


def request_of(vector: dict[str, Any]) -> RequestHead:
    """The request that a connect message carries."""
    fields = vector["request"]
    return RequestHead(
        fields["method"],
        fields["target"],
        tuple((name, value) for name, value in fields["headers"]),
    )
