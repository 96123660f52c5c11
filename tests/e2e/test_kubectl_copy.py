"""``kubectl cp``, by every kubectl."""

import hashlib
import os
from pathlib import Path

from tests.e2e.kubectl import Kubectl

SIZE = 20_000_000


def test_there_and_back(each_kubectl: Kubectl, tmp_path: Path) -> None:
    here, back = tmp_path / "here", tmp_path / "back"
    here.write_bytes(os.urandom(SIZE))
    digest = hashlib.sha256(here.read_bytes()).hexdigest()
    each_kubectl.ok("cp", str(here), "cat:/tmp/there")
    done = each_kubectl.ok("exec", "cat", "--", "sha256sum", "/tmp/there")
    assert done.out.decode().split()[0] == digest
    each_kubectl.ok("cp", "cat:/tmp/there", str(back))
    assert hashlib.sha256(back.read_bytes()).hexdigest() == digest
