"""``kubectl cp``, by every kubectl; large amounts by the last one.

``E2E_COPY_BYTES`` is the size of a large file, 50,000,000 unless told otherwise, and
``E2E_COPY_FILES`` the number of small ones, 500.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kubectl import Kubectl, tell

SIZE = 20_000_000
LARGE = int(os.environ.get("E2E_COPY_BYTES", "50_000_000"))
FILES = int(os.environ.get("E2E_COPY_FILES", "500"))
PER_DIRECTORY = 100
DEADLINE = 170.0


@pytest.fixture(autouse=True)
def emptied(kubectl: Kubectl) -> Iterator[None]:
    """Leave nothing of the copies in the container."""
    yield
    kubectl.ok("exec", "cat", "--", "sh", "-c", "rm -rf /tmp/*", deadline=DEADLINE)


def there_and_back(kubectl: Kubectl, directory: Path, size: int) -> None:
    here, back = directory / "here", directory / "back"
    with here.open("wb") as file:
        for begin in range(0, size, SIZE):
            file.write(os.urandom(min(SIZE, size - begin)))
    digest = digest_of(here)
    up = kubectl.ok("cp", str(here), "cat:/tmp/there", deadline=DEADLINE)
    done = kubectl.ok("exec", "cat", "--", "sha256sum", "/tmp/there", deadline=DEADLINE)
    assert done.out.decode().split()[0] == digest
    down = kubectl.ok("cp", "cat:/tmp/there", str(back), deadline=DEADLINE)
    assert digest_of(back) == digest
    tell(f"{size} bytes: {up.seconds:.1f} s there, {down.seconds:.1f} s back")


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(directory: Path) -> dict[str, bytes]:
    """The content of each file, by its path."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_there_and_back(each_kubectl: Kubectl, tmp_path: Path) -> None:
    there_and_back(each_kubectl, tmp_path, SIZE)


def test_a_large_file(kubectl: Kubectl, tmp_path: Path) -> None:
    there_and_back(kubectl, tmp_path, LARGE)


def test_many_small_files(kubectl: Kubectl, tmp_path: Path) -> None:
    here, back = tmp_path / "here", tmp_path / "back"
    for number in range(FILES):
        path = here / f"{number // PER_DIRECTORY}" / f"file {number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number}\n".encode() * (number % 300))
    up = kubectl.ok("cp", str(here), "cat:/tmp/many", deadline=DEADLINE)
    script = "find /tmp/many -type f | wc -l"
    assert kubectl.ok("exec", "cat", "--", "sh", "-c", script).lines == [str(FILES)]
    down = kubectl.ok("cp", "cat:/tmp/many", str(back), deadline=DEADLINE)
    assert tree(back) == tree(here)
    tell(f"{FILES} files: {up.seconds:.1f} s there, {down.seconds:.1f} s back")
