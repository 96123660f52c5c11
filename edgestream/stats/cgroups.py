"""Where cgroups are, and what is read from them, in either version.

A cgroup goes by its path below the root of the hierarchy, such as ``/kubepods/pod1234/abcd``.
"""

from pathlib import Path
from typing import Protocol

from edgestream.stats.cgroups_v1 import CgroupsV1
from edgestream.stats.cgroups_v2 import CgroupsV2
from edgestream.stats.procfs import ProcFs
from edgestream.stats.usage import Usage


class Cgroups(Protocol):
    """One version of cgroups, mounted somewhere."""

    @property
    def controller(self) -> str:
        """The hierarchy that paths are of, as ``/proc/<pid>/cgroup`` names it."""

    def has(self, path: str) -> bool:
        """Whether that cgroup is in sight."""

    def read(self, path: str) -> Usage:
        """What that cgroup uses; nothing is known of one that is gone."""

    def read_root(self) -> Usage:
        """What the whole node uses; nothing is known where only a part of the tree is in sight."""


def open_cgroups(root: Path) -> Cgroups:
    """The cgroups mounted below that directory, usually ``/sys/fs/cgroup``."""
    return CgroupsV2(root) if (root / "cgroup.controllers").exists() else CgroupsV1(root)


def locate(cgroups: Cgroups, proc: ProcFs, pid: int, owner_id: str) -> str | None:
    """The cgroup that was made for a container or a sandbox, given its first process and its id.

    The id is part of the cgroup's name, so that a process of somebody else's pid namespace is not
    taken for it. None if that cgroup is not in sight. A process may have moved further down by
    itself, as systemd does in a container.
    """
    names = proc.cgroup_paths(pid).get(cgroups.controller, "").split("/")
    depth = next((depth for depth, name in enumerate(names, 1) if owner_id in name), None)
    if depth is None or ".." in names:
        return None
    path = "/".join(names[:depth])
    return path if cgroups.has(path) else None


def pod_cgroup(path: str, pod_uid: str) -> str | None:
    """The cgroup of the pod that a container or a sandbox belongs to, right above its own.

    Its name has the pod's uid, with underscores where systemd made it; any other is not the pod's.
    """
    parent, _, _ = path.rpartition("/")
    name = parent.rpartition("/")[2]
    is_pods = pod_uid in name or pod_uid.replace("-", "_") in name
    return parent if pod_uid and is_pods else None
