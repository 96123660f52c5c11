"""The golden vectors of ``proto/vectors/pod_facts.json``."""

import json
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parents[4] / "proto" / "vectors" / "pod_facts.json"
_VECTORS: dict[str, Any] = json.loads(_FILE.read_text())


def each(group: str) -> pytest.MarkDecorator:
    """Run a test with each vector of the group."""
    return pytest.mark.parametrize(
        "vector", _VECTORS[group], ids=[vector["name"] for vector in _VECTORS[group]]
    )
