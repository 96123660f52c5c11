"""The golden vectors of ``proto/vectors/v2.json``."""

import json
from pathlib import Path
from typing import Any

import pytest

from streamkit.wire.exchange import Headers, RequestHead, ResponseHead

V2 = json.loads((Path(__file__).parents[4] / "proto" / "vectors" / "v2.json").read_text())

Vector = dict[str, Any]


def each(*groups: str) -> pytest.MarkDecorator:
    """Run a test with each vector of these groups."""
    vectors = [vector for group in groups for vector in V2[group]]
    return pytest.mark.parametrize("vector", vectors, ids=_name)


def of_type(group: str, *types: int) -> pytest.MarkDecorator:
    """Run a test with each vector of the group that is a message of these types."""
    vectors = [vector for vector in V2[group] if vector["type"] in types]
    return pytest.mark.parametrize("vector", vectors, ids=_name)


def data_of(vector: Vector) -> bytes:
    """What follows the header."""
    return bytes.fromhex(vector["hex"]) if "hex" in vector else vector["text"].encode()


def message_of(vector: Vector) -> bytes:
    """The whole message."""
    return bytes.fromhex(vector["header"]) + data_of(vector)


def request_of(fields: Vector) -> RequestHead:
    return RequestHead(fields["method"], fields["target"], _headers(fields))


def answer_of(fields: Vector) -> ResponseHead:
    return ResponseHead(fields["status"], _headers(fields), fields["reason"])


def _headers(fields: Vector) -> Headers:
    return tuple((name, value) for name, value in fields["headers"])


def _name(vector: Vector) -> str:
    name = vector["name"]
    return f"{name} ({vector['to']})" if "to" in vector else name
