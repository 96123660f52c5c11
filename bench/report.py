"""The table on the screen, the JSON file, the figures side by side."""

import json
import os
import platform
import statistics
from collections import defaultdict
from pathlib import Path

from bench.figure import Figure


def summarize(runs: list[list[Figure]]) -> dict[str, dict[str, object]]:
    """Name -> unit, the figure of each run, their median."""
    values: dict[str, list[float]] = defaultdict(list)
    units: dict[str, str] = {}
    for figures in runs:
        for figure in figures:
            values[figure.name].append(figure.value)
            units[figure.name] = figure.unit
    return {
        name: {
            "unit": units[name],
            "runs": [round(value, 4) for value in found],
            "median": round(statistics.median(found), 4),
        }
        for name, found in values.items()
    }


def ratios(summary: dict[str, dict[str, object]]) -> dict[str, float]:
    """Ours against the relay where both were measured in the same run; what a full link costs."""
    found = {}
    for what in ("log download", "exec upload", "log download of 8 streams"):
        ours, relay = _median(summary, f"{what}, ours"), _median(summary, f"{what}, relay")
        cloud = _median(summary, f"{what}, ours, CPU of cloud")
        limit = _median(summary, f"{what}, relay, CPU of relay")
        found[f"{what}: MB/s, ours over relay"] = round(ours / relay, 2)
        found[f"{what}: CPU per GB, cloud over relay"] = round(cloud / limit, 2)
    for what, unit in (("connects", "rate"), ("CPU per connect", "CPU")):
        ours, relay = (_median(summary, f"idle tunnels, {what}, {it}") for it in ("ours", "relay"))
        found[f"idle tunnels: {unit} of connects, ours over relay"] = round(ours / relay, 2)
    for side in ("ours", "relay"):
        beside = _median(summary, f"echo of 64 bytes beside a saturated log, {side}, p99")
        alone = _median(summary, f"echo of 64 bytes, {side}, p99")
        found[f"echo p99: beside a saturated log over alone, {side}"] = round(beside / alone, 1)
    return found


def machine() -> dict[str, object]:
    """Where this was measured."""
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def write(path: Path, summary: dict[str, dict[str, object]]) -> None:
    """The results as a file, for whoever compares."""
    path.parent.mkdir(exist_ok=True)
    whole = {"machine": machine(), "figures": summary, "ratios": ratios(summary)}
    path.write_text(json.dumps(whole, indent=2) + "\n")


def table(summary: dict[str, dict[str, object]]) -> str:
    """The medians, a line each, then the ratios."""
    width = max(len(name) for name in summary)
    lines = [
        f"{name:<{width}}  {row['median']:>12}  {row['unit']}" for name, row in summary.items()
    ]
    lines.append("")
    lines += [f"{name:<{width}}  {value:>12}" for name, value in ratios(summary).items()]
    return "\n".join(lines)


def _median(summary: dict[str, dict[str, object]], name: str) -> float:
    return float(str(summary[name]["median"]))
