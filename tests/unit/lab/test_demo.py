"""The demo, as ``make demo`` runs it once everything is installed."""

import pytest

from lab.containerd import missing
from lab.demo import run_demo
from lab.environment import Environment
from lab.layout import Layout
from lab.programs import LabError
from tests.unit.lab.places import free_layout

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {', '.join(missing())}"),
]


@pytest.fixture
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return free_layout(tmp_path_factory.mktemp("lab"))


def test_demo_shows_each_command_and_leaves_nothing(
    layout: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    run_demo(Environment(layout))
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].startswith("demo: 6 of 6 steps passed")
    for command in ("logs talker", "logs talker -f", "exec shell", "exec -i cat", "exec -it shell"):
        assert any(line.startswith(f"$ kubectl {command}") for line in lines)
    assert "command terminated with exit code 7" in lines
    assert not layout.directory.exists()


def test_demo_names_the_step_that_fails_and_leaves_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.demo.TALKER_BACKLOG", 10**9)
    with pytest.raises(LabError, match="demo step 'logs' failed: at least 1000000000 lines"):
        run_demo(Environment(layout))
    assert not layout.directory.exists()
