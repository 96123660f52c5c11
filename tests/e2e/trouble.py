"""A stack whose edge dials over a link in which a test can make trouble."""

from dataclasses import dataclass

from tests.e2e.background import Background
from tests.e2e.conftest import NewStack
from tests.e2e.stack import Stack, wait_until
from tests.support.link import Link, link_to


@dataclass(frozen=True, slots=True)
class Trouble:
    """A stack whose edge reaches its cloud over a link, and the link, in which to make trouble."""

    stack: Stack
    link: Link
    loop: Background

    def make(self, way: str) -> None:
        """End whatever tunnel there is, and wait until the edge has another one."""
        connected = self._tunnels()
        if way == "swallow":
            silent = self.stack.edge.log_text.count("was silent")
            self.loop.call(self.link.swallow)
            self.stack.edge.wait_for_log("was silent", times=silent + 1)
        else:
            self.loop.call(getattr(self.link, way))
        self.loop.call(self.link.heal)
        wait_until(lambda: self._tunnels() > connected, "another tunnel")

    def wait_until_carried(self, size: int) -> None:
        """Wait until the link has carried so many more bytes."""
        goal = self.link.carried + size
        wait_until(lambda: self.link.carried > goal, f"{size} bytes over the link")

    def _tunnels(self) -> int:
        return self.stack.edge.log_text.count("speaking v2")


def trouble(loop: Background, new_stack: NewStack, *, resume_timeout: float) -> Trouble:
    """A stack that notices silence soon."""
    links: list[Link] = []

    def via(port: int) -> int:
        links.append(loop.enter(link_to(port)))
        return links[0].port

    cloud = {"heartbeat": 0.5, "heartbeatTimeout": 1.5, "resumeTimeout": resume_timeout}
    edge = {"heartbeat": 0.5, "resumeTimeout": resume_timeout}
    stack = new_stack(
        via=via,
        kube_api=False,
        cloud={"cloudstream": {"deadlines": cloud}},
        edge={
            "modules": {"edgeStream": {"readDeadline": 1}},
            "edgestream": {"deadlines": edge, "backoff": {"initial": 0.1, "maximum": 0.2}},
        },
    )
    return Trouble(stack, links[0], loop)
