"""Running programs to their end: the one place of the lab that does."""

import os
import subprocess
from pathlib import Path

# A test runner's PATH often lacks the sbin directories that hold runc and ip.
ENVIRONMENT = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"}


class LabError(RuntimeError):
    """The lab could not be started or cleared away."""


def run(*command: str | Path, check: bool = True, deadline: float = 60) -> str:
    """Run a program to its end and return what it printed on stdout.

    Raises ``LabError`` with the program's own last words if it fails and ``check`` is set, and in
    any case if it can't be started or takes longer than ``deadline`` seconds (it is then killed).
    """
    line = " ".join(map(str, command))
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=ENVIRONMENT,
            check=False,
            timeout=deadline,
        )
    except OSError as error:
        raise LabError(f"{line}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{line}: not done after {deadline:g} s") from error
    if check and done.returncode:
        raise LabError(f"{line}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
