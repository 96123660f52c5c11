"""Which of a cgroup's figures are shown at ``/metrics/cadvisor``, under which name."""

from dataclasses import dataclass
from typing import Literal

from edgestream.stats.usage import Usage

SECOND = 10**9

Kind = Literal["counter", "gauge"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A field of ``Usage``, or of its ``cpu`` or ``memory``, as a family of samples.

    The family's name is that here with ``container_`` before it. Values are divided by ``unit``;
    one that is not known is shown as ``unknown``, or not at all if that is None. A setting, unlike
    a measurement, has no time.
    """

    name: str
    kind: Kind
    text: str
    field: str
    unit: int = 1
    unknown: int | None = None
    is_setting: bool = False

    def of(self, usage: Usage) -> float | None:
        """The value, in the family's unit."""
        section, _, name = self.field.rpartition(".")
        owner = getattr(usage, section) if section else usage
        if owner is None:
            return None
        value: int | None = getattr(owner, name)
        return self.unknown if value is None else value / self.unit


def _setting(name: str, text: str, field: str, unknown: int | None = None) -> Figure:
    return Figure(f"spec_{name}", "gauge", text, field, unknown=unknown, is_setting=True)


FIGURES = (
    Figure("cpu_user_seconds_total", "counter", "Processor time of programs", "cpu.user", SECOND),
    Figure(
        "cpu_system_seconds_total", "counter", "Processor time of the kernel", "cpu.system", SECOND
    ),
    Figure("cpu_cfs_periods_total", "counter", "Periods of the processor quota", "cpu.periods"),
    Figure(
        "cpu_cfs_throttled_periods_total",
        "counter",
        "Periods in which the processor quota was used up",
        "cpu.throttled_periods",
    ),
    Figure(
        "cpu_cfs_throttled_seconds_total",
        "counter",
        "Time spent waiting for more processor quota",
        "cpu.throttled",
        SECOND,
    ),
    Figure("memory_usage_bytes", "gauge", "Memory of all kinds", "memory.usage"),
    Figure(
        "memory_working_set_bytes",
        "gauge",
        "Memory without inactive file pages",
        "memory.working_set",
    ),
    Figure("memory_rss", "gauge", "Anonymous memory in bytes", "memory.rss"),
    Figure("memory_cache", "gauge", "Page cache in bytes", "memory.cache"),
    Figure("memory_mapped_file", "gauge", "Mapped files in bytes", "memory.mapped_file"),
    Figure("memory_swap", "gauge", "Memory that is swapped out, in bytes", "memory.swap"),
    Figure("memory_kernel_usage", "gauge", "Memory of the kernel in bytes", "memory.kernel"),
    Figure("memory_max_usage_bytes", "gauge", "The most memory so far", "memory.peak"),
    Figure("memory_failcnt", "counter", "How often the limit was reached", "memory.limit_hits"),
    Figure("memory_total_active_file_bytes", "gauge", "Active file pages", "memory.active_file"),
    Figure(
        "memory_total_inactive_file_bytes", "gauge", "Inactive file pages", "memory.inactive_file"
    ),
    Figure("processes", "gauge", "Number of processes", "processes"),
    Figure("threads", "gauge", "Number of threads", "threads"),
    Figure("threads_max", "gauge", "Limit of threads; 0 is none", "thread_limit", unknown=0),
    _setting("cpu_shares", "Weight among those who want a processor", "cpu.shares"),
    _setting("cpu_period", "Length of a period in microseconds", "cpu.period_us"),
    _setting("cpu_quota", "Processor time in a period, in microseconds", "cpu.quota_us"),
    _setting("memory_limit_bytes", "Memory limit; 0 is none", "memory.limit", 0),
    _setting("memory_swap_limit_bytes", "Limit of swap; 0 is none", "memory.swap_limit", 0),
    _setting(
        "memory_reservation_limit_bytes",
        "Memory that is kept for it; 0 is none",
        "memory.reservation",
        0,
    ),
)

NETWORK = (
    ("receive_bytes_total", "rx_bytes"),
    ("receive_packets_total", "rx_packets"),
    ("receive_errors_total", "rx_errors"),
    ("receive_packets_dropped_total", "rx_dropped"),
    ("transmit_bytes_total", "tx_bytes"),
    ("transmit_packets_total", "tx_packets"),
    ("transmit_errors_total", "tx_errors"),
    ("transmit_packets_dropped_total", "tx_dropped"),
)
"""Names of families, with ``container_network_`` before them, and fields of ``InterfaceUsage``."""

DEVICES = (
    ("reads_bytes_total", "read_bytes"),
    ("writes_bytes_total", "written_bytes"),
    ("reads_total", "reads"),
    ("writes_total", "writes"),
)
"""Names of families, with ``container_fs_`` before them, and fields of ``DeviceUsage``."""
