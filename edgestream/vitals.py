"""What an edge agent's probes and metrics say."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from prometheus_client.metrics_core import Metric

from edgestream.connector import Connector
from edgestream.kubelet.exchange import KubeletHandler
from edgestream.serving import ChannelServer
from streamkit.errors import StreamError
from streamkit.service.certificates import Certificates
from streamkit.service.health import OK, Check, Outcome, Verdict, failed_unless
from streamkit.service.metrics import build_metrics, counter, gauge, request_metrics


@runtime_checkable
class Checkable(Protocol):
    """A backend that depends on something that may be away."""

    async def check(self) -> None:
        """Raises StreamError where it is."""


class Vitals:
    """Looks at the parts of one agent."""

    def __init__(
        self,
        certificates: Certificates,
        server: ChannelServer,
        connector: Connector,
        backend: KubeletHandler,
    ) -> None:
        self._certificates = certificates
        self._server = server
        self._connector = connector
        self._backend = backend

    def checks(self) -> dict[str, Check]:
        """A node serves while it has a tunnel, and a runtime that answers."""
        return {
            "tunnel": self._tunnel,
            "runtime": self._runtime,
            "certificates": self._certificates.check,
        }

    def metrics(self) -> Iterator[Metric]:
        """All of the agent's own."""
        yield from build_metrics("edgestream")
        yield from self._certificates.metrics("edgestream")
        yield from request_metrics("edgestream", self._server.tally)
        connector = self._connector
        text = "Whether there is a tunnel to the cloud."
        yield gauge("edgestream_connected", text, not connector.trouble)
        text = "Tunnels that began, by whether they resumed a session."
        connects = connector.connects.items()
        yield counter("edgestream_tunnel_connects", text, ("wire", "session"), connects)
        text = "Tunnels that ended and attempts that failed, by the code of the reason."
        yield counter("edgestream_tunnel_failures", text, ("code",), connector.failures.items())

    async def _tunnel(self) -> Outcome:
        return failed_unless(not self._connector.trouble, self._connector.trouble)

    async def _runtime(self) -> Outcome:
        if isinstance(self._backend, Checkable):
            try:
                await self._backend.check()
            except StreamError as error:
                return Outcome(Verdict.FAILED, str(error))
        return OK
