"""Clearing away what a daemon and its containers leave behind."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.programs import run

SHIM_SOCKETS = Path("/run/containerd/s")  # compiled into containerd, as is the next
CNI_CACHE = Path("/var/lib/cni/results")


def arguments_of(pid: int) -> list[str]:
    """A living process's command line; empty for a zombie, a kernel thread and a dead one."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def all_pids() -> Iterator[int]:
    """The ids of all processes that can be seen from here."""
    for process in Path("/proc").glob("[0-9]*"):
        yield int(process.name)


def end_process(pid: int, is_meant: Callable[[int], bool], grace: float) -> None:
    """End a process for as long as it is the one meant: ask first, kill it after the grace.

    An id may pass to another process at any time: it is looked at before each signal.
    """
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        if is_meant(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while is_meant(pid) and time.monotonic() < deadline:
            time.sleep(0.01)


def remove_if_empty(*directories: Path) -> None:
    """Remove each directory that exists and holds nothing."""
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()


def clear_containers(state: Path) -> None:
    """End the containers below a containerd's state directory, and remove its shims' sockets."""
    for address in state.glob("io.containerd.runtime.v2.task/*/*/address"):
        path = Path(address.read_text().removeprefix("unix://"))
        if path.parent == SHIM_SOCKETS:
            path.unlink(missing_ok=True)
    for container in state.glob("runc/*/*"):
        runc = ("runc", "--root", container.parent)
        run(*runc, "delete", "--force", container.name, check=False)
    remove_if_empty(SHIM_SOCKETS, SHIM_SOCKETS.parent)


def clear_mounts(base: Path) -> None:
    """Undo all mounts below a directory, the last one first."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        point = line.split()[1].encode().decode("unicode_escape")
        if base in Path(point).parents:
            run("umount", "--lazy", point)


def clear_cgroups(name: str) -> None:
    """Remove the cgroups below a top-level one, and that one, in each hierarchy."""
    cgroups = Path("/sys/fs/cgroup")
    for top in (cgroups / name, *cgroups.glob(f"*/{name}")):
        for group, _, _ in os.walk(top, topdown=False):
            remove_if_empty(Path(group))


def clear_network(name: str, sandbox_ids: list[str]) -> None:
    """Remove a bridge, and what the CNI library remembers of the sandboxes attached to it."""
    for pattern in (f"{name}-*", *(f"cni-loopback-{one}-*" for one in sandbox_ids)):
        for cached in CNI_CACHE.glob(pattern):
            cached.unlink()
    remove_if_empty(CNI_CACHE, CNI_CACHE.parent)
    if Path("/sys/class/net", name).exists():
        run("ip", "link", "delete", name)
