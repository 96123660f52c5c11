"""The published page is made of the results as they are."""

from typing import Any
from xml.etree import ElementTree

from bench.page import picture, tables

SIDES = ("ours", "relay")
WHAT = ("log download", "exec upload", "log download of 8 streams")
FIGURES: dict[str, Any] = {
    f"{what}, {side}": {
        "unit": "MB/s",
        "runs": [1.0, 100.0 + number, 300.0],
        "median": 100.0 + number,
    }
    for number, what in enumerate(WHAT)
    for side in SIDES
}
MACHINE = {"cpus": 2, "load": 0.25, "kernel": "6.1.0-9-amd64", "python": "3.11.7"}


def test_every_figure_stands_in_the_table() -> None:
    text = tables({"machine": MACHINE, "figures": FIGURES, "ratios": {"ours over relay": 0.7}})
    assert "2 CPUs, Linux 6.1.0, Python 3.11.7; the load was 0.2" in text
    assert "| exec upload, relay | 101 | MB/s | 1, 101, 300 |" in text
    assert "| ours over relay | 0.70 |" in text


def test_the_picture_has_a_bar_for_each_side() -> None:
    image = ElementTree.fromstring(picture(FIGURES))
    bars = [it for it in image if it.tag.endswith("rect") and it.get("height") == "15"]
    assert [int(bar.get("width", "0")) for bar in bars] == [373, 373, 376, 376, 380, 380]
