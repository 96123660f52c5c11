"""Certificates and their CA are replaced under running services: nothing that runs notices."""

import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.layout import HOST, NODE_NAME, Layout
from streamkit.pki.issue import issue_all
from tests.e2e.background import Background
from tests.e2e.stack import Stack
from tests.e2e.trouble import Trouble
from tests.support.link import Link, link_to

TUNNEL_CA = "tunnel-ca.crt"
NEW = "has its new certificates"


@pytest.fixture
def changing(
    lab: Layout, kubectl_binary: Path, tmp_path: Path, loop: Background
) -> Iterator[Trouble]:
    """A stack with certificates of its own, and with a CA of its own for its tunnel."""
    links: list[Link] = []

    def via(port: int) -> int:
        links.append(loop.enter(link_to(port)))
        return links[0].port

    directory = tmp_path / "stack"
    directory.mkdir()
    shutil.copy(lab.pki / "ca.crt", directory / TUNNEL_CA)
    tunnel_ca = {"tlsTunnelCAFile": str(directory / TUNNEL_CA)}
    cloud = {"modules": {"cloudStream": tunnel_ca}}
    backoff = {"initial": 0.1, "maximum": 0.2}
    edge = {"modules": {"edgeStream": tunnel_ca}, "edgestream": {"backoff": backoff}}
    stack = Stack(lab, directory, kubectl_binary, via=via, kube_api=False, cloud=cloud, edge=edge)
    pki = stack.layout.pki
    pki.unlink()
    shutil.copytree(lab.pki, pki)
    with stack:
        yield Trouble(stack, links[0], loop)


def reload(stack: Stack, *ends: str, times: int) -> None:
    """Ask both services to look at their files, and wait until those ends of the cloud have."""
    for program in (stack.cloud, stack.edge):
        program.send_signal(signal.SIGHUP)
    for end in ends:
        stack.cloud.wait_for_log(f"the {end} {NEW}", times=times)
    stack.edge.wait_for_log(f"the tunnel {NEW}", times=times)


def is_let_in(stack: Stack, pki: Path) -> bool:
    """Whether the tunnel port takes the edge's certificate that is in that directory."""
    context = ssl.create_default_context(cafile=str(stack.layout.directory / TUNNEL_CA))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 the refusal would come later
    context.load_cert_chain(pki / f"edge-{NODE_NAME}.crt", pki / f"edge-{NODE_NAME}.key")
    address = (HOST, stack.layout.tunnel_port)
    try:
        with (
            socket.create_connection(address, 10) as tcp,
            context.wrap_socket(tcp, server_hostname=HOST),
        ):
            return True
    except ssl.SSLError:
        return False


def test_a_new_ca_and_all_that_it_issued(changing: Trouble, lab: Layout, tmp_path: Path) -> None:
    stack, new = changing.stack, tmp_path / "new"
    pki, tunnel_ca = stack.layout.pki, stack.layout.directory / TUNNEL_CA
    issue_all(new, nodes=[NODE_NAME])
    old_ca, new_ca = (each.joinpath("ca.crt").read_text() for each in (lab.pki, new))
    with stack.kubectl.talk("exec", "-i", "cat", "--", "cat") as talk:
        talk.send(b"before\n")
        talk.wait_for(b"before\n")

        tunnel_ca.write_text(old_ca + new_ca)
        for stem in ("stream", "tunnel", f"edge-{NODE_NAME}"):
            for kind in ("crt", "key"):
                shutil.copy(new / f"{stem}.{kind}", pki)
        reload(stack, "stream port", "tunnel port", times=1)
        shown = ssl.get_server_certificate((HOST, stack.layout.stream_port))
        assert shown == new.joinpath("stream.crt").read_text()
        assert is_let_in(stack, lab.pki)

        tunnel_ca.write_text(new_ca)
        reload(stack, "tunnel port", times=2)
        assert not is_let_in(stack, lab.pki)
        assert is_let_in(stack, new)

        changing.make("cut")  # so that the edge dials with what it has now
        talk.send(b"after\n")
        talk.wait_for(b"after\n")
        talk.end_input()
        done = talk.finish()
    assert (done.code, done.err) == (0, "")
    assert stack.kubectl.ok("logs", "cat").code == 0
