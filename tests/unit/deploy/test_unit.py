"""The systemd unit of the edge agent."""

import shutil
import subprocess
from pathlib import Path

import pytest

from streamkit.service.cli import Exit, service_parser

UNIT = Path(__file__).resolve().parents[3] / "deploy" / "systemd" / "edgestream.service"


def settings() -> dict[str, list[str]]:
    """All values of each key."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def value_of(key: str) -> str:
    (value,) = settings()[key]
    return value


def test_the_command_is_understood() -> None:
    program, *arguments = value_of("ExecStart").split()
    assert Path(program).name == "edgestream"
    parser, _ = service_parser(
        "edgestream", "", config="/none", serve=lambda args: 0, texts=lambda: ("", "")
    )
    args = parser.parse_args(arguments)
    assert args.config == "/etc/kubeedge/config/edgecore.yaml"


def test_it_knows_how_the_service_begins_and_ends() -> None:
    assert value_of("Type") == "notify"
    assert value_of("ExecReload") == "/bin/kill -HUP $MAINPID"
    assert int(value_of("WatchdogSec")) == 30
    assert value_of("SuccessExitStatus") == "143"
    assert value_of("RestartPreventExitStatus") == f"{Exit.USAGE:d} {Exit.CONFIG:d}"
    assert value_of("Restart") == "always"


def test_it_may_enter_the_networks_of_pods_and_no_other_namespace() -> None:
    assert "CAP_SYS_ADMIN" in value_of("CapabilityBoundingSet").split()
    assert value_of("RestrictNamespaces") == "net"


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("no systemd here")
    program = value_of("ExecStart").split()[0]
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(program, shutil.which("true") or "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
