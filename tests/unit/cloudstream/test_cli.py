"""The command ``cloudstream`` from the outside: what it prints, what it starts, how it ends."""

import asyncio
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cloudstream.cli import main
from cloudstream.config import DEFAULT_CONFIG, MIN_CONFIG, CloudConfig
from streamkit.errors import CertMissing, TunnelClosed

pytestmark = pytest.mark.usefixtures("restored_logging")


class Service(ModuleType):
    """Stands in for ``cloudstream.service``: notes its configuration, then does as told."""

    def __init__(self) -> None:
        super().__init__("cloudstream.service")
        self.configs: list[CloudConfig] = []
        self.loops: list[str] = []
        self.error: Exception | None = None

    async def run(self, config: CloudConfig, *, reload: asyncio.Event) -> None:
        self.configs.append(config)
        self.loops.append(type(asyncio.get_running_loop()).__module__)
        if self.error:
            raise self.error


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    stand_in = Service()
    monkeypatch.setitem(sys.modules, "cloudstream.service", stand_in)
    return stand_in


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "cloudcore.yaml"
    path.write_text("kind: CloudCore\nmodules: {cloudStream: {tunnelPort: 20004}}\n")
    return path


@pytest.mark.parametrize("before", [[], ["serve"]])
def test_serve_runs_the_service_with_what_the_file_says(
    service: Service, config_file: Path, before: list[str]
) -> None:
    assert main([*before, "--config", str(config_file)]) == 0
    (config,) = service.configs
    assert config.tunnel_port == 20004


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TunnelClosed("it is over"), 1, "cloudstream: error KS2001: it is over"),
        (CertMissing("no x.crt"), 3, "cloudstream: error KS6001: no x.crt"),
        (RuntimeError("boom"), 1, "cloudstream: internal error: RuntimeError: boom"),
    ],
)
def test_an_error_of_the_service_is_one_line(
    service: Service,
    config_file: Path,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    line: str,
) -> None:
    service.error = error
    assert main(["--config", str(config_file)]) == code
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_bad_file_is_told_before_anything_starts(
    service: Service, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text("modules: {cloudStream: {enabel: true, sever: 1}}\n")
    assert main(["--config", str(config_file)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2
    assert captured.err.startswith(f"cloudstream: error KS7001: {config_file}:1:")
    assert service.configs == []


def test_the_other_sides_file_is_told(
    service: Service, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text("kind: EdgeCore\n")
    assert main(["--config", str(config_file)]) == 3
    assert capsys.readouterr().err.splitlines() == [
        (
            f"cloudstream: error KS7001: {config_file}:1:7: cloudstream reads the CloudCore file "
            "(cloudcore.yaml), and this one has kind: EdgeCore"
        )
    ]
    assert service.configs == []


@pytest.mark.parametrize(
    ("flag", "text"), [("--minconfig", MIN_CONFIG), ("--defaultconfig", DEFAULT_CONFIG)]
)
def test_what_is_printed_can_be_served(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, text: str
) -> None:
    assert main([flag]) == 0
    printed = capsys.readouterr().out
    assert printed == text
    path = tmp_path / "printed.yaml"
    path.write_text(printed)
    assert main(["--config", str(path)]) == 0
    assert len(service.configs) == 1


def test_the_default_path_is_kubeedges(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "/etc/kubeedge/config/cloudcore.yaml" in capsys.readouterr().out


def test_start_up_imports_nothing_heavy() -> None:
    script = (
        "import sys; from cloudstream.cli import main; code = main(['--version']); "
        "heavy = {'aiohttp', 'cryptography', 'grpc', 'kubernetes_asyncio', 'pydantic', 'yaml'}; "
        "found = heavy & sys.modules.keys(); sys.exit(repr(found) if found else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cloudstream ")


def test_the_cloud_runs_on_uvloop_where_it_is_installed(
    service: Service, config_file: Path
) -> None:
    pytest.importorskip("uvloop")
    assert main(["--config", str(config_file)]) == 0
    assert service.loops[0].startswith("uvloop")


def test_certificates_can_be_issued_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certs", "issue", "--dir", str(tmp_path), "--node", "n1"]) == 0
    assert f"issued  {tmp_path}/edge-n1.crt\n" in capsys.readouterr().out
    assert main(["certs", "show", str(tmp_path)]) == 0
    assert "edge node n1" in capsys.readouterr().out
