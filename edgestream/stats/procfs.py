"""The node's own figures, as the kernel keeps them under /proc.

Files that are not there, or hold something else, count as figures that are not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgestream.stats.files import read_int, read_text, to_int
from edgestream.stats.usage import TICK


@dataclass(frozen=True, slots=True)
class InterfaceUsage:
    """What went through one network interface since it exists."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What the node consists of: ``devices`` are block devices' names by ``major:minor``."""

    boot_id: str
    cpu_count: int
    memory: int | None
    swap: int | None
    devices: Mapping[str, str]


class ProcFs:
    """A proc filesystem mounted at ``root``, which must be that of the node's own pid namespace."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def boot_time(self) -> int | None:
        """When the node started."""
        seconds = self._stat().get("btime", [""])[0]
        return None if (value := to_int(seconds)) is None else value * 10**9

    def cpu_usage(self) -> int | None:
        """The time that all processors have worked, idling and waiting for input left out.

        Guests' time is in the users' already.
        """
        ticks = [to_int(field) for field in self._stat().get("cpu", ())]
        if len(ticks) < 4:
            return None
        idle = ticks[3:5]
        busy = sum(each or 0 for each in ticks[:8]) - sum(each or 0 for each in idle)
        return busy * TICK

    def memory(self) -> Mapping[str, int]:
        """``meminfo`` in bytes, by its own names: ``MemTotal``, ``SwapFree``..."""
        found = {}
        for line in read_text(self._root / "meminfo").splitlines():
            name, _, value = line.partition(":")
            number = to_int(value.removesuffix("kB").strip())
            if number is not None:
                found[name] = number * 1024 if value.endswith("kB") else number
        return found

    def interfaces(self, pid: int | None = None) -> tuple[InterfaceUsage, ...]:
        """The interfaces of a process's network namespace; of init's if no process is named."""
        lines = read_text(self._root / str(pid or 1) / "net" / "dev").splitlines()
        return tuple(filter(None, map(_interface, lines[2:])))

    def cgroup_paths(self, pid: int) -> Mapping[str, str]:
        """The process's cgroup in each hierarchy: by controller, and by "" in the unified one."""
        found = {}
        for line in read_text(self._root / str(pid) / "cgroup").splitlines():
            _, controllers, path = (*line.split(":", 2), "", "")[:3]
            found.update(dict.fromkeys(controllers.split(","), path))
        return found

    def task_limit(self) -> int | None:
        """How many tasks there can be on the node."""
        kernel = self._root / "sys" / "kernel"
        limits = (read_int(kernel / "pid_max"), read_int(kernel / "threads-max"))
        return min((limit for limit in limits if limit is not None), default=None)

    def task_count(self) -> int | None:
        """How many tasks there are on the node."""
        fields = read_text(self._root / "loadavg").split()
        return to_int(fields[3].partition("/")[2]) if len(fields) > 3 else None

    def machine(self) -> Machine:
        """The node's equipment."""
        memory = self.memory()
        rows = (line.split() for line in read_text(self._root / "partitions").splitlines()[1:])
        return Machine(
            boot_id=read_text(self._root / "sys" / "kernel" / "random" / "boot_id").strip(),
            cpu_count=sum(name.startswith("cpu") and name != "cpu" for name in self._stat()),
            memory=memory.get("MemTotal"),
            swap=memory.get("SwapTotal"),
            devices={f"{row[0]}:{row[1]}": f"/dev/{row[3]}" for row in rows if len(row) == 4},
        )

    def _stat(self) -> Mapping[str, list[str]]:
        lines = (line.split() for line in read_text(self._root / "stat").splitlines())
        return {name: fields for name, *fields in filter(None, lines)}


def _interface(line: str) -> InterfaceUsage | None:
    name, _, text = line.partition(":")
    numbers = [number for field in text.split() if (number := to_int(field)) is not None]
    if len(numbers) < 12:
        return None
    return InterfaceUsage(name.strip(), *numbers[:4], *numbers[8:12])
