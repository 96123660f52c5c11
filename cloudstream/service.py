"""The cloud service put together: the only place where its parts are made."""

import asyncio
import logging

from cloudstream.callers import Callers
from cloudstream.config import CloudConfig
from cloudstream.kube import AsyncioKubeApi, PodDirectory
from cloudstream.registry import Registry
from cloudstream.router import Router
from cloudstream.stream_server import StreamServer
from cloudstream.tunnel_server import TunnelServer
from streamkit.pki.contexts import stream_server_context, tunnel_server_context
from streamkit.service.listener import TlsListener

log = logging.getLogger(__name__)


async def run(config: CloudConfig) -> None:
    """Serve until cancelled.

    Raises CertError or PortInUse, before anything is served, where it can't begin.
    """
    settings = config.settings
    deadlines = settings.deadlines
    registry = Registry()
    pods = _pod_directory(config)
    streams = StreamServer(
        Callers(settings.api_clients), Router(registry, pods), deadlines, settings.limits
    )
    tunnels = TunnelServer(registry, deadlines, settings.limits)
    stream_context = stream_server_context(config.stream_tls, config.api_client_ca)
    tunnel_context = tunnel_server_context(config.tunnel_tls)
    how = {"handshake_deadline": deadlines.handshake, "close_deadline": deadlines.drain}
    host = settings.bind_address
    stream_listener = TlsListener.bind(
        "stream port", host, config.stream_port, stream_context, streams.connection, **how
    )
    try:
        tunnel_listener = TlsListener.bind(
            "tunnel port", host, config.tunnel_port, tunnel_context, tunnels.connection, **how
        )
    except BaseException:
        stream_listener.close()
        raise
    log.info(
        "serving API servers on port %d and edge nodes on port %d",
        stream_listener.port,
        tunnel_listener.port,
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(streams.run(), name="stream server")
            group.create_task(stream_listener.serve(), name="stream listener")
            group.create_task(tunnel_listener.serve(), name="tunnel listener")
    finally:
        tunnels.close()
        if pods:
            await pods.close()


def _pod_directory(config: CloudConfig) -> PodDirectory | None:
    if not config.settings.lookup.use_kube_api:
        return None
    if not AsyncioKubeApi.is_configured(master=config.kube_master, kube_config=config.kube_config):
        log.warning("no Kubernetes API is configured: nodes are found by the address dialled")
        return None
    deadline = config.settings.deadlines.lookup
    api = AsyncioKubeApi(
        master=config.kube_master, kube_config=config.kube_config, deadline=deadline
    )
    return PodDirectory(api, deadline=deadline)
