"""The image: built, run with nothing but what it says that it needs, and asked."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import yaml

from streamkit.pki.issue import issue_all
from tests.integration.deploy.image import (
    BUILD_DEADLINE,
    DEADLINE,
    PROJECT,
    Builder,
    Container,
    missing,
)
from tests.support.cloud import tls_files
from tests.support.cloudcore import tls_keys
from tests.support.der import write_der
from tests.support.http_server import free_port
from tests.support.wait import eventually

NODE = "edge-1"
BASE, IMAGE = "localhost/base:1", "localhost/cloudstream:1"
ETC = "/etc/kubeedge"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * BUILD_DEADLINE)]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """The image, ready to be run; it is built once."""
    if lacking := ", ".join(missing()):
        pytest.skip(f"this machine lacks {lacking}")
    directory = tmp_path_factory.mktemp("image")
    builder = Builder(directory)
    builder.make_base(BASE)
    builder.build(BASE, IMAGE)
    with builder.files(IMAGE) as root:
        yield Container(builder.settings(IMAGE), root, directory)


@pytest.fixture
def ports(tmp_path: Path) -> tuple[int, int]:
    """Its stream port and its tunnel port. The files below ``tmp_path`` are written for them."""
    stream, tunnel = free_port(), free_port()
    pki = tmp_path / "etc" / "pki"
    issue_all(pki, nodes=(NODE,))
    of_cloudcore = write_der(pki, pki)
    for file in pki.iterdir():  # as a volume of a pod has it
        file.chmod(0o644)
    keys = tls_keys(tls_files(pki, "stream"), of_cloudcore)
    tls = {key: f"{ETC}/pki/{Path(path).name}" for key, path in keys.items()}
    document = {
        "modules": {"cloudStream": {"streamPort": stream, "tunnelPort": tunnel, **tls}},
        "cloudstream": {
            "bindAddress": "127.0.0.1",
            "lookup": {"useKubeAPI": False},
            "adminAddress": f"127.0.0.1:{free_port()}",
        },
    }
    (tmp_path / "etc" / "cloudcore.yaml").write_text(yaml.safe_dump(document))
    return stream, tunnel


def ask(port: int, pki: Path) -> tuple[int, bytes]:
    """A request as an API server makes it; status 0 where nobody answers."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "apiserver-client.crt", pki / "apiserver-client.key")
    connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=DEADLINE)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status, answer.read()
    except ConnectionRefusedError:
        return 0, b""
    finally:
        connection.close()


def test_it_serves_an_edge_and_an_api_server(
    container: Container, tmp_path: Path, ports: tuple[int, int]
) -> None:
    stream, tunnel = ports
    etc = tmp_path / "etc"
    command = ("cloudstream", "serve", "--config", f"{ETC}/cloudcore.yaml")
    with container.running("cloud", command, {ETC: etc}) as log:
        told = log.read_text
        eventually(lambda: ask(stream, etc / "pki")[0] != 0, deadline=DEADLINE, told=told)
        module = ("-m", "tests.support.scripted_edge", f"127.0.0.1:{tunnel}", NODE, "127.0.0.1")
        edge = subprocess.Popen([sys.executable, *module, str(etc / "pki")], cwd=PROJECT)
        try:
            eventually(lambda: ask(stream, etc / "pki")[0] == 200, deadline=DEADLINE, told=told)
            assert ask(stream, etc / "pki") == (200, b"edge-1 GET /healthz\n")
        finally:
            edge.kill()
            edge.wait(DEADLINE)
    assert "Traceback" not in log.read_text()


def test_it_can_change_nothing_and_has_no_right(container: Container) -> None:
    code, out = container.output("status", "cat", "/proc/self/status")
    assert code == 0
    fields = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["65532"] * 4
    assert fields["Gid"].split() == ["65532"] * 4
    for right in ("CapEff", "CapPrm", "CapBnd"):
        assert int(fields[right], 16) == 0
    code, out = container.output("write", "touch", "/pki/file")
    assert code != 0
    assert "Read-only file system" in out


def test_both_programs_and_both_kinds_of_rules_are_in_it(container: Container) -> None:
    for program in ("cloudstream", "edgestream"):
        code, out = container.output(program, program, "--help")
        assert (code, f"usage: {program}" in out) == (0, True)
    for program in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
        code, out = container.output(program, program, "--version")
        assert (code, out.startswith("ip")) == (0, True)


def test_no_tool_of_the_build_is_in_it(container: Container) -> None:
    packages = {path.name for path in (container.root / "opt/cloudstream").rglob("site-packages/*")}
    assert {"cloudstream", "edgestream", "streamkit"} <= packages
    assert packages.isdisjoint({"pip", "hatchling", "pytest", "mypy", "grpc_tools"})
    assert not (container.root / "src").exists()
    assert not (container.root / "wheels").exists()
