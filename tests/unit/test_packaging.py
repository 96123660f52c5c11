"""The distribution: one wheel with the three packages and both programs."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_one_wheel_has_all_three_packages_and_both_programs(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    done = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(PROJECT)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (points,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
        programs = configparser.ConfigParser()
        programs.read_string(archive.read(points).decode())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "cloudstream",
        "edgestream",
        "streamkit",
    }
    assert dict(programs["console_scripts"]) == {
        "cloudstream": "cloudstream.cli:main",
        "edgestream": "edgestream.cli:main",
    }
    for package in ("cloudstream", "edgestream", "streamkit"):
        modules = (path.relative_to(PROJECT) for path in (PROJECT / package).rglob("*.py"))
        assert {str(module) for module in modules} <= {*names}
