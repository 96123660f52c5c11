"""What containerd and CRI-O add to a verbose status, as JSON of their own."""

import json
from collections.abc import Mapping
from typing import Any


def verbose_info(info: Mapping[str, str]) -> dict[str, Any]:
    """The document in a status's ``info``; empty where there is none that can be read."""
    try:
        document = json.loads(info.get("info", ""))
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def network_namespace(document: Mapping[str, Any]) -> str:
    """The file of a sandbox's network namespace; empty where the runtime does not tell."""
    try:
        namespaces = document["runtimeSpec"]["linux"]["namespaces"]
        paths = [each.get("path") for each in namespaces if each.get("type") == "network"]
    except (LookupError, TypeError, AttributeError):
        return ""
    path = paths[0] if paths else ""
    return path if isinstance(path, str) else ""
