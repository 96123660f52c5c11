"""Trees of small files in the shape that a kernel shows: /proc and either version of cgroups."""

from collections.abc import Mapping
from pathlib import Path

POD_UID = "0a1b2c3d-aaaa-bbbb-cccc-0123456789ab"
POD = f"/kubepods/burstable/pod{POD_UID}"
SANDBOX_ID, APP_ID, IDLE_ID = "5a" * 32, "ab" * 32, "cd" * 32
MIB = 1 << 20

NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
"""


def write_tree(root: Path, files: Mapping[str, object]) -> None:
    """Write the files, each ended by a newline as the kernel's are."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def interface(name: str, *, rx: int, tx: int) -> str:
    """A line of ``net/dev``: packets are a tenth of the bytes, errors 1 and 3, drops 2 and 4."""
    received = f"{rx} {rx // 10} 1 2 0 0 0 0"
    return f"{name:>6}: {received} {tx} {tx // 10} 3 4 0 0 0 0\n"


def write_proc(root: Path, cgroups: Mapping[int, str]) -> None:
    """A node of two processors, started at 1700000000, with these lines of ``<pid>/cgroup``."""
    node = "".join(
        interface(name, rx=rx, tx=rx + 1)
        for name, rx in {
            "lo": 10,
            "eth0": 2000,
            "veth12ab": 30,
            "docker0": 40,
            "wlan0": 500,
        }.items()
    )
    files: dict[str, object] = {
        "stat": "cpu  1000 20 300 9000 50 0 7 3 100 0\ncpu0 500 10 150 4500\ncpu1 500 10 150 4500"
        "\nintr 12345 0 1\nbtime 1700000000\nprocesses 4711",
        "meminfo": f"MemTotal:  {8 * 1024 * 1024} kB\nMemFree:  1024 kB\nSwapTotal:  2048 kB\n"
        "SwapFree:  512 kB\nAnonPages:  4096 kB\nActive(file):  300 kB\nInactive(file):  200 kB\n"
        "Mapped:  100 kB\nHugePages_Total:  7",
        "loadavg": "0.10 0.20 0.30 2/345 6789",
        "partitions": "major minor  #blocks  name\n\n 8 0 1000 sda\n 259 1 500 nvme0n1",
        "sys/kernel/pid_max": 32768,
        "sys/kernel/threads-max": 12345,
        "sys/kernel/random/boot_id": "b007",
        "1/net/dev": NET_DEV + node,
    }
    for pid, lines in cgroups.items():
        files[f"{pid}/cgroup"] = lines
        own = interface("lo", rx=1, tx=1) + interface("eth0", rx=pid, tx=2 * pid)
        files[f"{pid}/net/dev"] = NET_DEV + own
    write_tree(root, files)


def lines_v1(path: str) -> str:
    """``<pid>/cgroup`` in version 1."""
    return f"5:pids:{path}\n4:memory:{path}\n2:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::{path}"


def lines_v2(path: str) -> str:
    """``<pid>/cgroup`` in version 2."""
    return f"0::{path}"


def write_v1(root: Path, path: str, *, cpu: int, usage: int, **settings: object) -> None:
    """One cgroup of version 1 that used ``cpu`` ns; a quarter of the memory is inactive file.

    ``limit`` is its memory limit in bytes, ``quota`` the microseconds of processor time in 100 ms.
    """
    below = path.strip("/")
    unlimited = 9223372036854771712
    limit = settings.get("limit", unlimited)
    write_tree(
        root / "cpu,cpuacct" / below,
        {
            "cpuacct.usage": cpu,
            "cpuacct.stat": "user 30\nsystem 12",
            "cpu.stat": "nr_periods 100\nnr_throttled 25\nthrottled_time 5000000",
            "cpu.shares": 102,
            "cpu.cfs_period_us": 100000,
            "cpu.cfs_quota_us": settings.get("quota", -1),
        },
    )
    write_tree(
        root / "memory" / below,
        {
            "memory.usage_in_bytes": usage,
            "memory.max_usage_in_bytes": usage + 1,
            "memory.kmem.usage_in_bytes": 4096,
            "memory.failcnt": 6,
            "memory.limit_in_bytes": limit,
            "memory.memsw.limit_in_bytes": settings.get("memory_and_swap", unlimited),
            "memory.soft_limit_in_bytes": unlimited,
            "memory.stat": "cache 1\nrss 2\ntotal_cache 5000\ntotal_rss 6000\ntotal_swap 700\n"
            f"total_mapped_file 800\ntotal_active_file 900\ntotal_inactive_file {usage // 4}\n"
            "total_pgfault 111\ntotal_pgmajfault 22\nhierarchical_memory_limit 9",
            "cgroup.procs": "101\n102",
        },
    )
    write_tree(root / "pids" / below, {"pids.current": 5, "pids.max": "max"})
    counts = "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\nTotal 12288"
    operations = "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3"
    write_tree(
        root / "blkio" / below,
        {
            "blkio.throttle.io_service_bytes_recursive": counts,
            "blkio.throttle.io_serviced_recursive": operations,
        },
    )


def write_v1_root(root: Path, *, cpu: int, usage: int) -> None:
    """The root of version 1, which alone has one more file."""
    write_v1(root, "/", cpu=cpu, usage=usage)
    write_tree(root / "memory", {"cgroup.sane_behavior": 0})


def write_v2(root: Path, path: str, *, cpu: int, usage: int, **settings: object) -> None:
    """One cgroup of version 2; the settings are those of ``write_v1``."""
    write_tree(
        root / path.strip("/"),
        {
            "cgroup.type": "domain",
            "cgroup.procs": "101\n102",
            "cpu.stat": f"usage_usec {cpu // 1000}\nuser_usec 300000\nsystem_usec 120000\n"
            "nr_periods 100\nnr_throttled 25\nthrottled_usec 5000",
            "cpu.max": f"{settings.get('quota', 'max')} 100000",
            "cpu.weight": 4,
            "memory.current": usage,
            "memory.peak": usage + 1,
            "memory.swap.current": 700,
            "memory.max": settings.get("limit", "max"),
            "memory.swap.max": settings.get("swap", "max"),
            "memory.min": 0,
            "memory.events": "low 0\nhigh 0\nmax 6\noom 0",
            "memory.stat": f"anon 6000\nfile 5000\nkernel 4096\nfile_mapped 800\nactive_file 900\n"
            f"inactive_file {usage // 4}\npgfault 111\npgmajfault 22",
            "pids.current": 5,
            "pids.max": "max",
            "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:0",
        },
    )


def write_v2_root(root: Path, *, cpu: int, anonymous: int, file: int) -> None:
    """The root of version 2: it has no type, no limits and no sum of its memory."""
    write_tree(
        root,
        {
            "cgroup.controllers": "cpuset cpu io memory pids",
            "cgroup.procs": "1",
            "cpu.stat": f"usage_usec {cpu // 1000}\nuser_usec 1\nsystem_usec 2",
            "memory.stat": f"anon {anonymous}\nfile {file}\ninactive_file {file // 2}\n"
            "pgfault 9\npgmajfault 3",
        },
    )
