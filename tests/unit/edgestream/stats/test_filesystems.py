import os
from pathlib import Path

from edgestream.stats.filesystems import DirectoryUsage, files_in, filesystem_of


def test_a_filesystem(tmp_path: Path) -> None:
    found = filesystem_of(tmp_path)
    assert found
    expected = os.statvfs(tmp_path)
    assert found.capacity == expected.f_blocks * expected.f_frsize
    assert 0 < found.available <= found.capacity - found.used
    assert 0 <= found.inodes_free <= found.inodes


def test_one_that_holds_nothing_yet(tmp_path: Path) -> None:
    here, later = filesystem_of(tmp_path), filesystem_of(tmp_path / "not" / "yet")
    assert here
    assert later
    assert here.capacity == later.capacity


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert filesystem_of(tmp_path / "file" / "below") is None


def test_files_in_a_directory(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "below").mkdir(parents=True)
    (logs / "below" / "unseen").write_bytes(b"x" * 100_000)
    (tmp_path / "outside").write_bytes(b"x" * 100_000)
    assert files_in(logs) == DirectoryUsage(used=0, inodes=0)
    for name in ("0.log", "1.log"):
        (logs / name).write_bytes(b"x" * 10_000)
    (logs / "link").symlink_to(tmp_path / "outside")
    found = files_in(logs)
    assert found
    assert found.inodes == 3
    assert 20_000 <= found.used < 40_000


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    assert files_in(tmp_path / "none") is None
