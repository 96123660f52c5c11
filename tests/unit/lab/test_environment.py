"""The lab as a whole, and the parts that it is put together from."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cloudstream.config
import edgestream.config
import lab.apiserver.config
from lab import leftovers
from lab.configs import write_configs
from lab.containerd import missing
from lab.environment import Environment
from lab.layout import PROJECT, Layout, read_variables, write_variables
from lab.programs import LabError
from lab.services import PartFailed, Service
from tests.unit.lab.places import free_layout

DEADLINE = 15.0

needs_lab = pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {', '.join(missing())}")


@pytest.fixture
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return free_layout(tmp_path_factory.mktemp("lab"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.02)


# -- layout ------------------------------------------------------------------------------------


def test_layout_has_defaults() -> None:
    layout = Layout.from_environment({})
    assert layout.directory == PROJECT / ".lab"
    assert layout.pki == PROJECT / "certs" / "lab"
    ports = (layout.stream_port, layout.tunnel_port, layout.apiserver_port)
    assert ports == (10003, 10004, 6443)


def test_layout_follows_the_environment(tmp_path: Path) -> None:
    layout = Layout.from_environment({"LAB_DIR": str(tmp_path), "STREAM_PORT": "11003"})
    assert layout.stream_port == 11003
    for name in ("KUBECONFIG", "PKI_DIR", "CLOUD_CONFIG", "EDGE_CONFIG", "CRI_SOCKET"):
        assert Path(layout.variables()[name]).is_relative_to(tmp_path)


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1"])
def test_layout_refuses_what_is_no_port(text: str) -> None:
    with pytest.raises(LabError, match=f"TUNNEL_PORT={text} is no port"):
        Layout.from_environment({"TUNNEL_PORT": text})


def test_layout_refuses_the_same_port_twice() -> None:
    with pytest.raises(LabError, match="have to differ"):
        Layout.from_environment({"TUNNEL_PORT": "10003"})


def test_a_taken_port_is_named_with_its_variable(layout: Layout) -> None:
    layout.require_free_ports()
    with (
        socket.create_server(("127.0.0.1", layout.tunnel_port)),
        pytest.raises(LabError, match=rf"port {layout.tunnel_port} is taken .* TUNNEL_PORT="),
    ):
        layout.require_free_ports()


def test_variables_are_read_back_and_a_shell_can_source_them(tmp_path: Path) -> None:
    written = {"PLAIN": "/a/b", "ODD": "it's $HOME and more"}
    file = tmp_path / "env"
    write_variables(file, written)
    assert read_variables(file) == written
    done = subprocess.run(
        ["sh", "-c", f'. {file}; printf %s "$ODD"'], capture_output=True, text=True, check=True
    )
    assert done.stdout == written["ODD"]


# -- configuration files -----------------------------------------------------------------------


def test_each_program_can_load_its_configuration(layout: Layout) -> None:
    write_configs(layout)

    cloud = cloudstream.config.load(layout.cloud_config)
    assert (cloud.stream_port, cloud.tunnel_port) == (layout.stream_port, layout.tunnel_port)
    assert cloud.settings.bind_address == "127.0.0.1"
    assert cloud.kube_config == str(layout.kubeconfig)

    edge = edgestream.config.load(layout.edge_config)
    assert (edge.server_host, edge.server_port) == ("127.0.0.1", layout.tunnel_port)
    assert (edge.node_name, edge.node_ip) == ("edge-1", "192.0.2.1")
    assert edge.runtime_endpoint == f"unix://{layout.cri_socket}"

    apiserver = lab.apiserver.config.load(layout.apiserver_config)
    assert {node.name: node.cri for node in apiserver.nodes} == {
        "edge-1": layout.cri_socket,
        "edge-2": None,
    }
    assert [pod["metadata"]["name"] for pod in apiserver.pods] == ["ghost", "unscheduled"]


# -- programs in the background ----------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A program that says a word and then waits, whatever its configuration."""
    script = "import signal, sys; print('here I am', flush=True); signal.pause()"
    service = Service(
        name="waiter",
        pid_variable="WAITER_PID",
        command=(sys.executable, "-c", script),
        config=tmp_path / "waiter.yaml",
        log=tmp_path / "waiter.log",
    )
    yield service
    service.end()


def test_service_is_found_and_ended(service: Service) -> None:
    with service.start() as process:
        wait_until(lambda: service.pids() == [process.pid])
        wait_until(lambda: service.log.read_text() == "here I am\n")
        assert service.end()
        assert process.wait(DEADLINE) == -signal.SIGTERM
    assert service.pids() == []
    assert not service.end()


def test_service_started_by_hand_counts_too(service: Service) -> None:
    command = [*service.command, "--config", service.config.name]
    with subprocess.Popen(command, cwd=service.config.parent, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: service.pids() == [process.pid])
        service.end()
        assert process.wait(DEADLINE) == -signal.SIGTERM


def test_another_program_with_the_same_file_is_let_alone(service: Service) -> None:
    command = ["tail", "-f", "/dev/null", "--pid", str(os.getpid())]
    with subprocess.Popen([*command, str(service.config)], stderr=subprocess.DEVNULL) as process:
        assert not service.end()
        assert process.poll() is None
        process.kill()


def test_service_that_ends_early_is_reported_with_its_last_words(service: Service) -> None:
    with service.start() as process:
        wait_until(lambda: service.log.read_text() != "")
        process.kill()
        process.wait(DEADLINE)
        with pytest.raises(PartFailed, match="waiter ended") as caught:
            service.wait_until(lambda: False, process, DEADLINE, "does not listen")
    assert "here I am" in caught.value.last_words()


def test_service_that_is_never_ready_is_reported(service: Service) -> None:
    process = service.start()
    with pytest.raises(PartFailed, match=r"waiter does not listen after 0\.1 s"):
        service.wait_until(lambda: False, process, 0.1, "does not listen")
    process.kill()
    process.wait(DEADLINE)


# -- the whole ---------------------------------------------------------------------------------


def kubectl(environment: Environment, *arguments: str) -> str:
    variables = environment.kubectl_environment()
    done = subprocess.run(
        [variables["KUBECTL"], *arguments],
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout


def processes_of(layout: Layout) -> list[str]:
    commands = (" ".join(leftovers.arguments_of(pid)) for pid in leftovers.all_pids())
    return [command for command in commands if str(layout.directory) in command]


@pytest.mark.lab
@needs_lab
def test_lab_goes_up_is_kept_is_repaired_and_goes_down(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = Environment(layout)
    try:
        environment.up()
        told = read_variables(layout.env_file)
        printed = kubectl(environment, "logs", "failer").splitlines()
        assert sorted(printed) == ["about to fail", "failing"]
        assert kubectl(environment, "exec", "web", "--", "hostname") == "web\n"

        Environment(layout).up()
        assert "runs already" in capsys.readouterr().out
        assert read_variables(layout.env_file) == told

        os.kill(int(told["EDGE_PID"]), signal.SIGKILL)
        wait_until(lambda: environment.status()["edgestream"] == "not running")
        environment.up()
        assert read_variables(layout.env_file)["EDGE_PID"] != told["EDGE_PID"]
        assert "line 5000" in kubectl(environment, "logs", "talker")
    finally:
        environment.down()
    assert processes_of(layout) == []
    assert not layout.directory.exists()


@pytest.mark.lab
@needs_lab
def test_lab_that_can_not_start_says_why_and_leaves_nothing(
    layout: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lab.environment.write_configs", lambda here: here.apiserver_config.write_text("{}")
    )
    environment = Environment(layout)
    try:
        with pytest.raises(PartFailed, match="apiserver ended"):
            environment.up()
        assert "Field required" in capsys.readouterr().err
        assert processes_of(layout) == []
        assert not layout.containerd.exists()
    finally:
        environment.down()
    assert not layout.directory.exists()


@pytest.mark.lab
@needs_lab
def test_lab_does_not_start_on_a_taken_port(layout: Layout) -> None:
    environment = Environment(layout)
    with (
        socket.create_server(("127.0.0.1", layout.stream_port)),
        pytest.raises(LabError, match=f"port {layout.stream_port} is taken"),
    ):
        environment.up()
    assert not layout.containerd.exists()
