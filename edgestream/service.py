"""The edge agent put together: the only place where its parts are made."""

import asyncio
import logging

from edgestream.config import EdgeConfig
from edgestream.connector import Connector
from edgestream.kubelet.cri_backend import CriBackend
from edgestream.kubelet.exchange import KubeletHandler
from edgestream.kubelet.kubelet_backend import KubeletBackend
from edgestream.serving import ChannelServer
from edgestream.tunnel import TunnelOptions
from streamkit.pki.contexts import tunnel_client_context
from streamkit.session.v1_edge import V1EdgeSession

log = logging.getLogger(__name__)


async def run(config: EdgeConfig) -> None:
    """Serve the cloud until cancelled. Raises CertError where the certificates can't be used."""
    settings = config.settings
    context = tunnel_client_context(config.tunnel_tls)
    handler = _handler(config)
    server = ChannelServer(handler, max_channels=settings.limits.max_channels)

    def new_session() -> V1EdgeSession:
        return V1EdgeSession(server.accept, buffer_limit=settings.limits.channel_buffer_bytes)

    connector = Connector(_tunnel_options(config), context, new_session, settings.backoff)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run(), name="channels")
            group.create_task(connector.run(), name="connector")
    finally:
        await handler.close()


def _handler(config: EdgeConfig) -> KubeletHandler:
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
    )


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
