"""``python -m bench.page``: puts .bench/results.json into docs/benchmarks.md and its picture."""

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(".bench/results.json")
PAGE = Path("docs/benchmarks.md")
PICTURE = Path("docs/benchmarks.svg")

_TABLES = re.compile(r"(<!-- figures -->\n).*(<!-- end of figures -->\n)", re.DOTALL)
_PAIRS = ("log download", "exec upload", "log download of 8 streams")
_COLORS = {"ours": "#2b6cb0", "relay": "#a0aec0"}
_ROW = 46
_LEFT, _WIDTH = 210, 380


def main() -> None:
    """Write both."""
    results = json.loads(RESULTS.read_text())
    page = PAGE.read_text()
    PAGE.write_text(_TABLES.sub(lambda found: found[1] + tables(results) + found[2], page))
    PICTURE.write_text(picture(results["figures"]))


def tables(results: dict[str, Any]) -> str:
    """The machine, every figure's median and runs, the ratios."""
    machine = results["machine"]
    where = (
        f"Measured with {machine['cpus']} CPUs, Linux {machine['kernel'].partition('-')[0]},"
        f" Python {machine['python']}; the load was {machine['load']:.1f} at the end."
    )
    lines = ["", where, "", "| figure | median | unit | runs |", "|---|---|---|---|"]
    for name, row in results["figures"].items():
        runs = ", ".join(f"{value:.4g}" for value in row["runs"])
        lines.append(f"| {name} | {row['median']:.4g} | {row['unit']} | {runs} |")
    lines += ["", "| ratio | |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in results["ratios"].items()]
    return "\n".join([*lines, "", ""])


def picture(figures: dict[str, Any]) -> str:
    """MB/s of both paths as bars."""
    medians = {name: row["median"] for name, row in figures.items()}
    most = max(medians[f"{what}, {side}"] for what in _PAIRS for side in _COLORS)
    parts = []
    for number, what in enumerate(_PAIRS):
        top = 30 + number * _ROW
        parts.append(f'<text x="{_LEFT - 10}" y="{top + 20}" text-anchor="end">{what}</text>')
        for line, (side, color) in enumerate(_COLORS.items()):
            value, y = medians[f"{what}, {side}"], top + line * 17
            width = round(_WIDTH * value / most)
            bar = f'x="{_LEFT}" y="{y}" width="{width}" height="15" fill="{color}"'
            parts.append(f"<rect {bar}/>")
            parts.append(f'<text x="{_LEFT + width + 6}" y="{y + 12}">{value:.0f} {side}</text>')
    height = 30 + len(_PAIRS) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="{height}"'
        ' font-family="sans-serif" font-size="12">\n'
        '<rect width="100%" height="100%" fill="white"/>\n'
        '<text x="10" y="18" font-weight="bold">MB/s through TLS on every leg</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
