"""The manifests in deploy/, and kustomize, which makes of them what a cluster gets."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
SIDECAR = DEPLOY / "kubernetes" / "cloudcore-sidecar.yaml"

Manifest = dict[str, Any]


def load(path: Path) -> list[Manifest]:
    """All documents of a file."""
    return parse(path.read_text())


def parse(text: str) -> list[Manifest]:
    """All documents of a text."""
    return [document for document in yaml.safe_load_all(text) if document]


def kustomize(directory: Path) -> list[Manifest]:
    """What ``kubectl kustomize`` builds of a directory; skips where there is no kubectl."""
    if not (kubectl := shutil.which("kubectl")):
        pytest.skip("no kubectl here")
    done = subprocess.run(
        [kubectl, "kustomize", str(directory)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return parse(done.stdout)
