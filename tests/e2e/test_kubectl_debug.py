"""``kubectl debug``, by every kubectl that has it."""

import uuid

import pytest

from tests.e2e.kubectl import Kubectl
from tests.e2e.stack import wait_until


def test_a_container_beside_another(each_kubectl: Kubectl) -> None:
    if "1.20" in str(each_kubectl.binary):
        pytest.skip("kubectl 1.20 debugs with an alpha API that is gone")
    name = f"debugger-{uuid.uuid4().hex[:8]}"
    command = ("debug", "-it", "web", "--image=lab.local/busybox:1", "--target=web", "-c", name)
    with each_kubectl.talk(*command, "--", "sh", terminal=(30, 100)) as talk:
        talk.wait_for(b"# ")
        talk.send(b"ps; echo said''it\r")
        talk.wait_for(b"httpd -f")
        talk.wait_for(b"saidit\r\n")
        talk.send(b"exit\r")
        assert talk.finish().code == 0
    assert "saidit" in each_kubectl.ok("logs", "web", "-c", name).out.decode()

    def is_known_to_be_gone() -> bool:
        # The runtime may still be about to notice that the shell has ended.
        done = each_kubectl("exec", "web", "-c", name, "--", "true")
        return done.code == 1 and f'container not found ("{name}")' in done.err

    wait_until(is_known_to_be_gone, "the end of the container")
