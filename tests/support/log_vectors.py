"""The golden vectors of log reading, ``proto/vectors/logs.json``."""

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parents[2] / "proto" / "vectors" / "logs.json"

VECTORS: list[dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))["vectors"]


def named(vector: dict[str, Any]) -> str:
    """What a test of it is called: its number and what it shows."""
    return f"{vector['number']}-{vector['name'].replace(' ', '-')}"
