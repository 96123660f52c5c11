"""What is wrong with a setup is told in one clear line: no stack trace, no silent failure.

The programs are started as from a shell. What can't begin ends with exit code 3; what the other
side has to put right is told each time, while the service goes on.
"""

import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab import configs
from lab.environment import BIN
from lab.layout import HOST, NODE_NAME, Layout
from lab.programs import ENVIRONMENT
from streamkit.pki.issue import issue_all
from streamkit.service.cli import Exit
from tests.e2e.stack import DEADLINE, Program, check_log, merged, wait_until
from tests.unit.lab.places import free_layout

Change = Mapping[str, Any]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A place with keys and certificates of its own."""
    made = free_layout(tmp_path)
    issue_all(made.pki, nodes=[NODE_NAME], sans=[HOST])
    return made


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificates of another CA."""
    made = tmp_path_factory.mktemp("strangers")
    issue_all(made, nodes=[NODE_NAME], sans=[HOST])
    return made


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Those in this list are ended with the test; none of them may have met a fault of its own."""
    started: list[Program] = []
    try:
        yield started
    finally:
        for program in started:
            program.close()
    for program in started:
        check_log(program.log_text)


def config(layout: Layout, service: str, change: Change) -> Path:
    """The file of a service whose configuration is changed so."""
    if service == "edgestream":
        made = configs.edgecore(layout)
    else:  # there is no Kubernetes API here
        made = merged(configs.cloudcore(layout), {"cloudstream": {"lookup": {"useKubeAPI": False}}})
    file = layout.directory / f"{service}.yaml"
    file.write_text(yaml.safe_dump(merged(made, change)))
    return file


def run(layout: Layout, service: str, change: Change) -> list[str]:
    """Run a service that can't begin, and return the lines that it told."""
    done = subprocess.run(
        [BIN / service, "serve", "--config", config(layout, service, change)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == Exit.CONFIG, done.stderr
    assert done.stdout == ""
    check_log(done.stderr)
    lines = done.stderr.splitlines()
    return [
        line for line in lines if re.match(rf"{service}: |hint: ", line) or " INFO " not in line
    ]


def start(layout: Layout, programs: list[Program], service: str, change: Change) -> Program:
    """Start a service that goes on in spite of what is wrong."""
    command = (str(BIN / service), "-v", "4", "--config", str(config(layout, service, change)))
    program = Program(command, layout.directory / f"{service}.log")
    programs.append(program)
    program.start()
    return program


def stream(**keys: object) -> Change:
    return {"modules": {"cloudStream": keys}}


def edge_stream(**keys: object) -> Change:
    return {"modules": {"edgeStream": keys}}


def expire(pki: Path, stem: str, *, ago: timedelta = timedelta(days=1)) -> None:
    """Have a certificate end that long ago."""
    path = pki / f"{stem}.crt"
    old = x509.load_pem_x509_certificate(path.read_bytes())
    key = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    expired = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=old.subject,
        public_key=old.public_key(),
        serial_number=old.serial_number,
        not_valid_before=now - ago - timedelta(days=365),
        not_valid_after=now - ago,
        extensions=list(old.extensions),
    )
    path.write_bytes(expired.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


# -- what can't begin ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "change", "told"),
    [
        ("cloudstream", stream(streemPort=1), '"modules.cloudStream.streemPort" (did you mean'),
        (
            "cloudstream",
            {"cloudstream": {"deadlines": {"opne": 3}}},
            '"cloudstream.deadlines.opne"',
        ),
        (
            "edgestream",
            edge_stream(servr="a:1"),
            '"modules.edgeStream.servr" (did you mean "server"',
        ),
        ("edgestream", {"edgestream": {"bakcend": "cri"}}, '"edgestream.bakcend" (did you mean'),
    ],
)
def test_a_mistyped_key(layout: Layout, service: str, change: Change, told: str) -> None:
    (line,) = run(layout, service, change)
    assert re.match(rf"{service}: error KS7001: \S+\.yaml:\d+:\d+: unknown key ", line)
    assert told in line


@pytest.mark.parametrize(
    ("service", "change"),
    [
        ("cloudstream", stream(tlsStreamCertFile="/nowhere/stream.crt")),
        ("cloudstream", stream(tlsTunnelPrivateKeyFile="/nowhere/tunnel.key")),
        ("edgestream", edge_stream(tlsTunnelCertFile="/nowhere/edge.crt")),
        ("edgestream", edge_stream(tlsTunnelCAFile="/nowhere/ca.crt")),
    ],
)
def test_a_missing_certificate(layout: Layout, service: str, change: Change) -> None:
    (line,) = run(layout, service, change)
    assert re.search(r"error KS6001: /nowhere/\S+ can't be read \(No such file or dir", line)


@pytest.mark.parametrize(
    ("service", "section", "key"),
    [
        ("cloudstream", "cloudStream", "tlsStreamPrivateKeyFile"),
        ("cloudstream", "cloudStream", "tlsTunnelPrivateKeyFile"),
        ("edgestream", "edgeStream", "tlsTunnelPrivateKeyFile"),
    ],
)
def test_a_key_of_another_certificate(layout: Layout, service: str, section: str, key: str) -> None:
    other = layout.pki / "apiserver-client.key"
    (line,) = run(layout, service, {"modules": {section: {key: str(other)}}})
    assert f"error KS6002: the private key in {other} is not that of {layout.pki}/" in line


@pytest.mark.parametrize(
    ("service", "stem"),
    [("cloudstream", "stream"), ("cloudstream", "tunnel"), ("edgestream", f"edge-{NODE_NAME}")],
)
def test_an_expired_certificate(layout: Layout, service: str, stem: str) -> None:
    expire(layout.pki, stem)
    (line,) = run(layout, service, {})
    assert re.search(rf"error KS6002: {layout.pki}/{stem}\.crt expired on \d{{4}}-\d\d-\d\d$", line)


def test_all_that_is_wrong_with_the_certificates(layout: Layout) -> None:
    other = layout.pki / "apiserver-client.key"
    change = stream(
        tlsStreamCAFile="/nowhere/streamCA.crt",
        tlsStreamCertFile="/nowhere/stream.crt",
        tlsTunnelCAFile="/nowhere/rootCA.crt",
        tlsTunnelPrivateKeyFile=str(other),
    )
    lines = run(layout, "cloudstream", change)
    told = ("stream.crt can't be read", "streamCA.crt can't be read", "rootCA.crt can't be read")
    for text in (*told, f"the private key in {other} is not that of"):
        assert text in "\n".join(lines)
    assert len(lines) == 4


@pytest.mark.parametrize("port", ["stream_port", "tunnel_port"])
def test_a_port_in_use(layout: Layout, port: str) -> None:
    number = getattr(layout, port)
    with socket.create_server((HOST, number)):
        line, hint = run(layout, "cloudstream", {})
    words = port.replace("_", " ")
    assert f"error KS7002: the {words} can't listen on {HOST}, port {number}: Address al" in line
    assert hint == f"hint: see who has it with: ss -lntp 'sport = :{number}'"


# -- what goes on ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "stem", "role"),
    [
        ("cloudstream", "stream", "certificate stream"),
        ("cloudstream", "tunnel", "certificate tunnel"),
        ("edgestream", f"edge-{NODE_NAME}", "certificate tunnel"),
    ],
)
def test_a_certificate_that_soon_expires(
    layout: Layout, programs: list[Program], service: str, stem: str, role: str
) -> None:
    expire(layout.pki, stem, ago=-timedelta(days=6, hours=12))
    program = start(layout, programs, service, {})
    program.wait_for_log(f"WARNING streamkit.service.certificates: the {role} (")
    program.wait_for_log("expires in 6 days, on ")
    assert program.end() == 128 + signal.SIGTERM


def test_an_edge_that_trusts_another_ca(
    layout: Layout, programs: list[Program], strangers: Path
) -> None:
    start(layout, programs, "cloudstream", {}).wait_for_log("serving API servers on port")
    change = edge_stream(tlsTunnelCAFile=str(strangers / "ca.crt"))
    edge = start(layout, programs, "edgestream", change)
    edge.wait_for_log("attempt 3 follows")
    told = next(line for line in edge.log_text.splitlines() if "attempt" in line)
    assert "is not trusted: self-signed certificate in certificate chain [KS6003]" in told
    assert edge.end() == 128 + signal.SIGTERM


def test_a_cloud_that_trusts_another_ca(
    layout: Layout, programs: list[Program], strangers: Path
) -> None:
    cloud = start(
        layout, programs, "cloudstream", stream(tlsTunnelCAFile=str(strangers / "ca.crt"))
    )
    edge = start(layout, programs, "edgestream", {})
    cloud.wait_for_log("its client certificate is not from the configured CA", times=2)
    edge.wait_for_log("attempt 3 follows")
    assert edge.end() == 128 + signal.SIGTERM
    assert cloud.end() == 128 + signal.SIGTERM


def test_a_cloud_that_is_not_there(layout: Layout, programs: list[Program]) -> None:
    edge = start(layout, programs, "edgestream", {})
    where = f"{HOST}:{layout.tunnel_port}"
    edge.wait_for_log(f"cloud at {where} can't be reached: Connection refused [KS2004]", times=2)
    assert edge.end() == 128 + signal.SIGTERM


def ask(port: int, *, shown: tuple[Path, str] | None = None, tls: bool = True) -> bytes:
    """What a port answers to a request; nothing where it hangs up. ``shown`` is a certificate."""
    with socket.create_connection((HOST, port), timeout=DEADLINE) as plain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if shown:
            pki, stem = shown
            context.load_cert_chain(pki / f"{stem}.crt", pki / f"{stem}.key")
        try:
            with context.wrap_socket(plain) if tls else plain as asked:
                asked.sendall(b"GET /healthz HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
                return asked.recv(65536)
        except (ssl.SSLError, ConnectionError):
            return b""


def has_once(program: Program, pattern: re.Pattern[str]) -> bool:
    return len(pattern.findall(program.log_text)) == 1


def test_callers_of_either_port(layout: Layout, programs: list[Program], strangers: Path) -> None:
    cloud = start(layout, programs, "cloudstream", {})
    cloud.wait_for_log("serving API servers on port")
    for name in ("apiserver-client", f"edge-{NODE_NAME}"):
        expire(layout.pki, name)
    for name, port, stem in (
        ("stream port", layout.stream_port, "apiserver-client"),
        ("tunnel port", layout.tunnel_port, f"edge-{NODE_NAME}"),
    ):
        refused = rf"{name}: refused {re.escape(HOST)}:\d+: "
        told = [
            (ask(port, tls=False), "it spoke plain HTTP on a TLS port"),
            (ask(port, shown=(strangers, stem)), "its client certificate is not from the con"),
            (ask(port, shown=(layout.pki, stem)), "its client certificate has expired"),
        ]
        for answer, words in told:
            assert answer == b""
            pattern = re.compile(refused + words)
            wait_until(partial(has_once, cloud, pattern), words)
    assert ask(layout.tunnel_port) == b""
    cloud.wait_for_log("it showed no client certificate")
    assert ask(layout.stream_port).startswith(b"HTTP/1.1 401 ")
    assert cloud.end() == 128 + signal.SIGTERM
