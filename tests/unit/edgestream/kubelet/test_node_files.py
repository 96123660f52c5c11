import os
from pathlib import Path

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.kubelet.node_files import NodeDirectory, NodeFile, open_below


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_nobody_took_is_closed(tmp_path: Path) -> None:
    before = open_descriptors()
    found = open_below(tmp_path, "")
    assert isinstance(found, NodeDirectory)
    assert open_descriptors() == before + 1
    del found
    assert open_descriptors() == before


def test_closing_may_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    before = open_descriptors()
    found = open_below(tmp_path, "file")
    assert isinstance(found, NodeFile)
    assert (found.size, found.read(1, 3)) == (5, b"ell")
    found.close()
    found.close()
    assert open_descriptors() == before
    with pytest.raises(KubeletAnswer):
        found.read(0, 1)


def test_a_reader_keeps_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    before = open_descriptors()
    found = open_below(tmp_path, "file")
    assert isinstance(found, NodeFile)
    read = os.pread

    def close_meanwhile(descriptor: int, length: int, start: int) -> bytes:
        found.close()
        return read(descriptor, length, start)

    monkeypatch.setattr("os.pread", close_meanwhile)
    assert found.read(0, 5) == b"hello"
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("error", "status"),
    [(PermissionError, 403), (FileNotFoundError, 404), (OSError, 500)],
)
def test_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError], status: int
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("os.open", fail)
    with pytest.raises(KubeletAnswer) as caught:
        open_below(tmp_path, "file")
    assert caught.value.status == status


def test_a_disk_that_fails_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    found = open_below(tmp_path, "file")
    assert isinstance(found, NodeFile)

    def fail(*_: object) -> bytes:
        raise OSError

    monkeypatch.setattr("os.pread", fail)
    with pytest.raises(KubeletAnswer) as caught:
        found.read(0, 1)
    assert caught.value.status == 500
