"""The cloud service put together: the only place where its parts are made."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client.metrics_core import Metric

from cloudstream import health, metrics
from cloudstream.callers import Callers
from cloudstream.config import CloudConfig
from cloudstream.egress.destination import Destinations
from cloudstream.egress.server import EgressServer
from cloudstream.kube.api import AsyncioKubeApi, KubeApi
from cloudstream.kube.duty import DutyStatus
from cloudstream.kube.left_overs import LeftOvers
from cloudstream.kube.node_status import FixedPort, KubeletPortPublisher, PortSource
from cloudstream.kube.pods import PodDirectory
from cloudstream.kube.review import Reviewer
from cloudstream.kube.tunnel_port import TunnelPort, default_address
from cloudstream.moving import move_edges
from cloudstream.registry import Registry
from cloudstream.replicas.exchange import ReplicaDialler
from cloudstream.replicas.replicas import Replicas
from cloudstream.stream_server import StreamServer
from cloudstream.tls_ends import egress_end, replicas_end, stream_end, tunnel_end
from cloudstream.tunnel_server import TunnelServer
from streamkit.errors import StreamError
from streamkit.pki.contexts import own_identity
from streamkit.service.admin import AdminServer
from streamkit.service.certificates import Certificates
from streamkit.service.config import split_address
from streamkit.service.health import Check
from streamkit.service.listener import TlsListener
from streamkit.service.metrics import build_metrics, metrics_registry, request_metrics
from streamkit.service.notify import Notifier

log = logging.getLogger(__name__)

Upkeep = Callable[[], Awaitable[None]]

_UPKEEP_PAUSE = 30.0
"""Seconds between a failure of work beside the serving and its next attempt."""


async def run(config: CloudConfig, *, reload: asyncio.Event) -> None:
    """Serve until cancelled; ``reload`` asks for a look at the certificate files.

    Raises CertError or PortInUse, before anything is served, where it can't begin.
    """
    await CloudService(config).run(reload)


class CloudService:
    """The service, its two ports taken; ``run`` serves them."""

    def __init__(self, config: CloudConfig) -> None:
        settings = config.settings
        deadlines = settings.deadlines
        self._certificates = Certificates()
        stream_context, tunnel_context = self._certificates.keep(
            stream_end(config, lambda context: self.stream_listener.use(context)),
            tunnel_end(config, lambda context: self.tunnel_listener.use(context)),
        )
        self.registry = Registry()
        self._close_deadline = deadlines.close
        self._drain_deadline = deadlines.drain
        self._api = _kube_api(config)
        self._pods = PodDirectory(self._api, deadline=deadlines.lookup) if self._api else None
        self._reviewer = None
        if self._api and settings.api_clients.bearer_tokens:
            self._reviewer = Reviewer(self._api)
        callers = Callers(settings.api_clients, self._reviewer)
        self._agreed: TunnelPort | None = None
        self._publisher: KubeletPortPublisher | None = None
        self._replicas = self._make_replicas(config) if settings.replicas.forward else None
        self._streams = StreamServer(
            callers,
            self.registry,
            self._pods,
            self._replicas,
            deadlines,
            settings.limits,
        )
        self._tunnels = TunnelServer(self.registry, deadlines, settings.limits)
        self.stream_listener = TlsListener(
            "stream port",
            stream_context,
            self._streams.connection,
            handshake_deadline=deadlines.handshake,
            close_deadline=deadlines.drain,
        )
        self.tunnel_listener = TlsListener(
            "tunnel port",
            tunnel_context,
            self._tunnels.connection,
            handshake_deadline=deadlines.handshake,
            close_deadline=deadlines.drain,
        )
        self._upkeep: dict[str, Upkeep] = {}
        self._duties: dict[str, Callable[[], DutyStatus]] = {}
        self._port: PortSource = FixedPort(config.kubelet_port)
        if self._api and self._pods:
            self._add_duty("pod watch", self._pods.run, self._pods.status)
            self._add_duties(self._api, config)
        self.egress: EgressServer | None = None
        self.admin = AdminServer(self._checks(), metrics_registry(self._metrics))
        try:
            self.stream_listener.bind(settings.bind_address, config.stream_port)
            self.tunnel_listener.bind(settings.bind_address, config.tunnel_port)
            if settings.egress.socket or settings.egress.address:
                self.egress = self._egress_server(config, callers)
            if settings.admin_address:
                self.admin.bind(*split_address(settings.admin_address))
        except StreamError:
            self.stream_listener.close()
            self.tunnel_listener.close()
            if self.egress:
                self.egress.close()
            raise

    def _egress_server(self, config: CloudConfig, callers: Callers) -> EgressServer:
        settings = config.settings
        (context,) = self._certificates.keep(
            egress_end(
                config,
                lambda context: self.egress.listener.use(context) if self.egress else None,
            )
        )
        return EgressServer(
            settings.egress,
            settings.deadlines,
            context=context,
            callers=callers,
            destinations=Destinations(
                self.registry,
                self._port,
                configured_port=config.kubelet_port,
                networks=settings.egress.networks,
            ),
            streams=self._streams,
            stream_listener=self.stream_listener,
        )

    def _add_duties(self, api: KubeApi, config: CloudConfig) -> None:
        settings = config.settings.kubernetes
        if settings.negotiate_tunnel_port:
            self._port = agreed = TunnelPort(
                api,
                address=lambda: settings.advertise_address or default_address(),
                edge_addresses=lambda: {node.internal_ip for node in self.registry.nodes()},
                left_overs=LeftOvers(api, stream_port=config.stream_port),
            )
            self._agreed = agreed
            self._add_duty("tunnel port", agreed.run, agreed.status)
        if settings.publish_kubelet_port:
            yield_after = config.settings.deadlines.heartbeat_timeout
            publisher = KubeletPortPublisher(
                api, self.registry, self._port, yield_after=yield_after
            )
            self._publisher = publisher
            self._add_duty("kubelet port", publisher.run, publisher.status)

    def _make_replicas(self, config: CloudConfig) -> Replicas:
        (context,) = self._certificates.keep(
            replicas_end(config, lambda context: dialler.use(context))
        )
        dialler = ReplicaDialler(context, lambda: own_identity(config.stream_tls))
        return Replicas(
            dialler,
            static=[split_address(each) for each in config.settings.replicas.addresses],
            stream_port=config.stream_port,
            record=lambda: self._agreed.others if self._agreed else {},
            published=lambda name: self._publisher.published(name) if self._publisher else None,
            names_at=lambda address: self._publisher.names_at(address) if self._publisher else (),
        )

    def _add_duty(self, name: str, run: Upkeep, status: Callable[[], DutyStatus]) -> None:
        self._upkeep[name] = run
        self._duties[name] = status

    def duties(self) -> dict[str, DutyStatus]:
        """How the work on the Kubernetes API stands, which serving does not wait for."""
        return {name: status() for name, status in self._duties.items()}

    def _checks(self) -> dict[str, Check]:
        listeners = {"stream-port": self.stream_listener, "tunnel-port": self.tunnel_listener}
        return {
            **{name: health.port_check(each) for name, each in listeners.items()},
            "shutdown": health.shutdown_check(self._streams),
            "certificates": self._certificates.check,
            **({"kubernetes-api": health.api_check(self._api)} if self._api else {}),
            **{
                health.duty_name(name): health.duty_check(each)
                for name, each in self._duties.items()
            },
        }

    def _metrics(self) -> Iterator[Metric]:
        yield from build_metrics("cloudstream")
        yield from self._certificates.metrics("cloudstream")
        yield from request_metrics("cloudstream", self._streams.tally)
        yield from metrics.tunnel_metrics(self._tunnels.tally, self.registry, self._streams)
        if self.egress:
            yield from metrics.egress_metrics(self.egress)
        if self._api:
            yield from metrics.api_metrics(self._api, self.duties())

    async def run(self, reload: asyncio.Event | None = None) -> None:
        """Serve until cancelled; then every session is ended, and its callers are told.

        ``reload`` asks for a look at the certificate files, at which we look anyway now and then.
        """
        stream_port, tunnel_port = self.stream_listener.port, self.tunnel_listener.port
        log.info(
            "serving API servers on port %d and edge nodes on port %d", stream_port, tunnel_port
        )
        notifier = Notifier.from_environment()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._streams.run(), name="stream server")
                streams = group.create_task(self.stream_listener.serve(), name="stream listener")
                tunnels = group.create_task(self.tunnel_listener.serve(), name="tunnel listener")
                if self.egress:
                    group.create_task(self.egress.run(), name="egress")
                group.create_task(self.admin.serve(), name="admin")
                certificates = self._certificates.run(reload or asyncio.Event())
                group.create_task(certificates, name="certificates")
                group.create_task(notifier.keep_alive(lambda: True), name="watchdog")
                notifier.ready(f"serving on ports {stream_port} and {tunnel_port}")
                for name, work in self._upkeep.items():
                    group.create_task(_keep_up(name, work), name=name)
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    notifier.stopping("finishing what ends by itself")
                    tunnels.cancel()
                    end = time.monotonic() + self._drain_deadline
                    await self._move_edges(until=end)
                    streams.cancel()
                    await self._streams.finish(within=max(0.0, end - time.monotonic()))
                    # First the sessions, then the connections: so callers still hear why.
                    self._tunnels.close()
                    await self._streams.drain(within=self._close_deadline)
        finally:
            for each in (self._replicas, self._pods, self._reviewer, self._api):
                if each:
                    await each.close()

    async def _move_edges(self, *, until: float) -> None:
        publisher = self._publisher
        if self._replicas and self._replicas.addresses():
            await move_edges(
                self._tunnels,
                self._streams,
                self._replicas,
                lambda names: publisher is not None and publisher.is_leading_here(names),
                until=until,
            )
        else:
            self._tunnels.drain()


async def _keep_up(name: str, work: Upkeep) -> None:
    """Do what serving does not depend on: should it fail, it is told and begun again."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s: internal error; it begins again", name)
        await asyncio.sleep(_UPKEEP_PAUSE)


def _kube_api(config: CloudConfig) -> AsyncioKubeApi | None:
    if not config.settings.lookup.use_kube_api:
        return None
    if not AsyncioKubeApi.is_configured(master=config.kube_master, kube_config=config.kube_config):
        log.warning("no Kubernetes API is configured: nodes are found by the address dialled")
        return None
    return AsyncioKubeApi(
        master=config.kube_master,
        kube_config=config.kube_config,
        deadline=config.settings.deadlines.lookup,
    )
