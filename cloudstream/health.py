"""The checks of the cloud service's ``/readyz``.

What Kubernetes has to be told is listed and does not make the service unready: tunnels and requests
go on without it, and taking the service out would help nobody.
"""

from collections.abc import Callable

from cloudstream.kube.api import AsyncioKubeApi
from cloudstream.kube.duty import DutyStatus
from cloudstream.stream_server import StreamServer
from streamkit.service.health import Check, Outcome, failed_unless, pending_unless
from streamkit.service.listener import TlsListener


def port_check(listener: TlsListener) -> Check:
    """Failed once the port is given back."""

    async def check() -> Outcome:
        return failed_unless(listener.is_open, "the port is closed")

    return check


def shutdown_check(streams: StreamServer) -> Check:
    """Failed from the moment on at which new requests are refused."""

    async def check() -> Outcome:
        return failed_unless(not streams.is_draining, "the service is stopping")

    return check


def api_check(api: AsyncioKubeApi) -> Check:
    """Pending while the Kubernetes API does not serve us."""

    async def check() -> Outcome:
        return pending_unless(not api.trouble, api.trouble)

    return check


def duty_check(status: Callable[[], DutyStatus]) -> Check:
    """Pending while there is work left, which the sentence names."""

    async def check() -> Outcome:
        found = status()
        return pending_unless(not found.pending, found.sentence)

    return check


def duty_name(name: str) -> str:
    """What the check of a duty is called."""
    return f"duty/{name.replace(' ', '-')}"
