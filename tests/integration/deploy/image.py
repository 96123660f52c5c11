"""The image, built by buildah from a base that is made here, and run by runc.

No registry is asked: the base is of this machine's Debian, with its list of package sources.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]
BUILD_DEADLINE = 900.0
DEADLINE = 60.0
PACKAGES = "ca-certificates,python3-venv"
MACHINE_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
"""Where packages may come from, and who is trusted there."""

Document = dict[str, Any]


def missing() -> list[str]:
    """What this machine lacks for building and running the image."""
    programs = ("buildah", "mmdebstrap", "runc")
    return [each for each in programs if not shutil.which(each)] + ["root"] * bool(os.geteuid())


def run(*command: str | Path, deadline: float = DEADLINE) -> str:
    """What a program writes; its failure fails the test."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=deadline, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr[-4000:]}"
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Builder:
    """buildah, with all that it keeps below one directory."""

    directory: Path

    def __call__(self, *command: str | Path) -> str:
        state = ("--root", self.directory / "storage", "--runroot", self.directory / "run")
        program = ("buildah", *state, "--storage-driver", "vfs")
        return run(*program, *command, deadline=BUILD_DEADLINE)

    def make_base(self, name: str) -> None:
        """Make an image of Debian with Python, and of nothing else."""
        release = Path("/etc/os-release").read_text()
        (codename,) = [
            value
            for line in release.splitlines()
            for key, _, value in (line.partition("="),)
            if key == "VERSION_CODENAME"
        ]
        archive = self.directory / "base.tar"
        options = ("--quiet", "--variant=apt", "--dpkgopt=force-unsafe-io", f"--include={PACKAGES}")
        run("mmdebstrap", *options, codename, archive, deadline=BUILD_DEADLINE)
        container = self("from", "scratch")
        self("add", "--quiet", container, archive, "/")
        for file in filter(os.path.exists, MACHINE_FILES):
            self("copy", "--quiet", container, file, file)
        self("commit", "--quiet", "--rm", container, name)
        archive.unlink()

    def build(self, base: str, name: str) -> None:
        """Build the Containerfile on a base."""
        file = PROJECT / "deploy" / "Containerfile"
        options = ("--quiet", "--isolation", "chroot", "--build-arg", f"BASE={base}")
        self("build", *options, "--file", file, "--tag", name, PROJECT)

    def settings(self, name: str) -> Document:
        """What an image says about how it is run: ``User``, ``Env``, ``Cmd`` and so on."""
        found: Document = json.loads(self("inspect", "--type", "image", name))["OCIv1"]["config"]
        return found

    @contextlib.contextmanager
    def files(self, name: str) -> Iterator[Path]:
        """The image's root directory."""
        container = self("from", "--pull-never", name)
        try:
            yield Path(self("mount", container))
        finally:
            self("umount", container)
            self("rm", container)


def bundle(settings: Document, root: Path, mounts: Mapping[str, Path]) -> Document:
    """A container as the image wants it: its user, no capability, nothing that can be written.

    It is on the network of whoever starts it, and has a ``/tmp`` of its own. ``mounts`` are
    directories of ours by the path where it sees them.
    """
    user, group = map(int, settings["User"].split(":"))
    usual = ["nosuid", "noexec", "nodev"]
    none: list[str] = []
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "user": {"uid": user, "gid": group},
            "env": settings["Env"],
            "cwd": settings.get("WorkingDir") or "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), none),
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": usual},
            *(
                {"destination": path, "source": str(source), "options": ["rbind", "ro"]}
                for path, source in mounts.items()
            ),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }


@dataclass(frozen=True, slots=True)
class Container:
    """How containers of an image are run."""

    settings: Document
    root: Path
    directory: Path

    def command(
        self, name: str, command: Sequence[str], mounts: Mapping[str, Path] | None = None
    ) -> list[str]:
        """The command line that runs one of that name in the foreground."""
        place = self.directory / name
        place.mkdir()
        document = bundle(self.settings, self.root, mounts or {})
        document["process"]["args"] = list(command)
        (place / "config.json").write_text(json.dumps(document))
        return [*self._runc(), "run", "--bundle", str(place), name]

    def output(self, name: str, *command: str) -> tuple[int, str]:
        """Run a command to its end: its exit code, and all that it writes."""
        done = subprocess.run(
            self.command(name, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        return done.returncode, done.stdout

    @contextlib.contextmanager
    def running(
        self, name: str, command: Sequence[str], mounts: Mapping[str, Path]
    ) -> Iterator[Path]:
        """A container for the length of the block; gives its log. SIGTERM has to end it."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(name, command, mounts),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            yield log
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) in (0, 128 + signal.SIGTERM), log.read_text()
        finally:
            subprocess.run(
                [*self._runc(), "delete", "--force", name],
                capture_output=True,
                timeout=DEADLINE,
                check=False,
            )
            process.wait(DEADLINE)

    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self.directory / "runc")]
