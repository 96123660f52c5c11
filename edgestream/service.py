"""The edge agent put together: the only place where its parts are made."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgestream.config import EdgeConfig
from edgestream.connector import Connector
from edgestream.kubelet.cri_backend import CriBackend, NodeFacts
from edgestream.kubelet.exchange import KubeletHandler
from edgestream.kubelet.kubelet_backend import KubeletBackend
from edgestream.serving import ChannelServer
from edgestream.tunnel import TunnelOptions
from edgestream.vitals import Vitals
from streamkit.pki.contexts import tunnel_client_context
from streamkit.service.certificates import Certificates, TlsEnd
from streamkit.service.config import split_address
from streamkit.service.metrics import metrics_registry
from streamkit.service.notify import Notifier
from streamkit.session.v1_edge import V1EdgeSession
from streamkit.session.v2 import V2EdgeSession
from streamkit.wire.v2 import V2Settings

if TYPE_CHECKING:
    from streamkit.service.admin import AdminServer

log = logging.getLogger(__name__)


async def run(
    config: EdgeConfig,
    *,
    handler: Callable[[EdgeConfig], KubeletHandler] | None = None,
    reload: asyncio.Event | None = None,
) -> None:
    """Serve the cloud until cancelled, from the configured backend or the one given.

    ``reload`` asks for a look at the certificate files, at which we look anyway now and then.
    Raises CertError where they can't be used, PortInUse where the admin address can't.
    """
    settings = config.settings
    tls = config.tunnel_tls
    certificates = Certificates()
    (context,) = certificates.keep(
        TlsEnd(
            "tunnel",
            {"tunnel": tls.cert, "tunnel-ca": tls.ca},
            tls.key,
            lambda: tunnel_client_context(tls),
            lambda context: connector.use(context),
        )
    )
    backend = (handler or configured_backend)(config)
    server = ChannelServer(backend, max_channels=settings.limits.max_channels)
    connector = Connector(
        _tunnel_options(config),
        context,
        EdgeSessions(
            server,
            buffer_limit=settings.limits.channel_buffer_bytes,
            resume_timeout=settings.deadlines.resume_timeout,
        ),
        settings.backoff,
        resume_timeout=settings.deadlines.resume_timeout,
    )
    admin = _admin_server(settings.admin_address, Vitals(certificates, server, connector, backend))
    notifier = Notifier.from_environment()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve_cloud(connector, server), name="connector")
            group.create_task(certificates.run(reload or asyncio.Event()), name="certificates")
            if admin:
                group.create_task(admin.serve(), name="admin")
            group.create_task(notifier.keep_alive(lambda: True), name="watchdog")
            # A node without a network must not hold up its boot: ready before there is a tunnel.
            notifier.ready(f"dialling {config.server}")
    finally:
        notifier.stopping()
        await backend.close()


async def serve_cloud(connector: Connector, server: ChannelServer) -> None:
    """Answer what comes through the connector's tunnels until cancelled.

    The tunnels end before the requests that they carry: so every caller hears of the agent's end,
    and not of its own request's only.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run(), name="channels")
        await connector.run()


class EdgeSessions:
    """Makes sessions whose channels the server answers."""

    def __init__(self, server: ChannelServer, *, buffer_limit: int, resume_timeout: float) -> None:
        self._server = server
        self._buffer_limit = buffer_limit
        self._settings = V2Settings(resume_timeout=resume_timeout)

    def v1(self) -> V1EdgeSession:
        """For a stock cloud."""
        return V1EdgeSession(self._server.accept, buffer_limit=self._buffer_limit)

    def v2(self) -> V2EdgeSession:
        """For a cloud that chose v2."""
        return V2EdgeSession(self._server.accept, self._settings)


def configured_backend(config: EdgeConfig) -> KubeletHandler:
    """What the configuration names: the container runtime, or a kubelet of this host."""
    deadlines = config.settings.deadlines
    if config.settings.backend == "kubelet":
        log.info("answering from the kubelet at %s:%d", config.kubelet_address, config.kubelet_port)
        return KubeletBackend(
            config.kubelet_address, config.kubelet_port, dial_deadline=deadlines.streaming_dial
        )
    log.info("answering from the container runtime at %s", config.runtime_endpoint)
    return CriBackend(
        config.runtime_endpoint,
        call_deadline=deadlines.cri_call,
        dial_deadline=deadlines.streaming_dial,
        node=NodeFacts(
            name=config.node_name,
            root_directory=config.root_directory,
            log_directory=config.node_logs,
        ),
    )


def _admin_server(address: str, vitals: Vitals) -> "AdminServer | None":
    """The admin address where there is one; its HTTP server is imported only then."""
    if not address:
        return None
    from streamkit.service.admin import AdminServer

    server = AdminServer(vitals.checks(), metrics_registry(vitals.metrics))
    server.bind(*split_address(address))
    return server


def _tunnel_options(config: EdgeConfig) -> TunnelOptions:
    settings = config.settings
    return TunnelOptions(
        server=config.server,
        server_name=settings.server_name,
        node_name=config.node_name,
        node_ip=config.node_ip,
        handshake=config.handshake_timeout,
        heartbeat=settings.deadlines.heartbeat,
        silence=config.read_deadline,
        write=config.write_deadline,
        close=settings.deadlines.close,
        max_message=settings.limits.max_message_bytes,
    )
