"""The kubelet service, served from a container runtime."""

from edgestream.cri.client import CriClient
from edgestream.kubelet.container_logs import ContainerLogs
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.health import Health
from edgestream.kubelet.port_forward import PortForward
from edgestream.kubelet.remote_command import RemoteCommand
from edgestream.kubelet.router import Route, Router
from edgestream.logs.watch import LogWatcher

_POD = ("namespace", "pod")
_CONTAINER = (*_POD, "container")
_CONTAINER_OF_UID = (*_POD, "uid", "container")


class CriBackend:
    """A ``KubeletHandler`` that answers from the runtime on ``endpoint``.

    ``call_deadline`` is for one call to the runtime, ``dial_deadline`` for its streaming server to
    answer, both in seconds. The runtime need not be there yet, and may go and come back.
    """

    def __init__(self, endpoint: str, *, call_deadline: float, dial_deadline: float) -> None:
        self._client = CriClient(endpoint, call_deadline=call_deadline)
        self._watcher = LogWatcher()
        logs = ContainerLogs(self._client, self._watcher)
        command = RemoteCommand(self._client, dial_deadline=dial_deadline)
        ports = PortForward(self._client, dial_deadline=dial_deadline)
        health = Health(self._client)
        shapes = (_CONTAINER, _CONTAINER_OF_UID)
        self._router = Router(
            [
                Route("containerLogs", (_CONTAINER,), ("GET",), logs.read),
                Route("exec", shapes, ("GET", "POST"), command.execute),
                Route("attach", shapes, ("GET", "POST"), command.attach),
                Route("portForward", (_POD, (*_POD, "uid")), ("GET", "POST"), ports.forward),
                Route("healthz", ((), ("check",)), (), health.report),
            ]
        )

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request as a kubelet does.

        Cancelling drops what was opened for it: files, the runtime's stream, a call under way.
        """
        await self._router.serve(exchange)

    async def close(self) -> None:
        """Close the runtime's connection and stop watching logs. Idempotent."""
        await self._watcher.close()
        await self._client.close()
