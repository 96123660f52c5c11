"""The cloud service's own metrics. Everything is read from where it is when somebody asks."""

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import HistogramMetricFamily, Metric

from cloudstream.egress.server import EgressServer
from cloudstream.kube.api import AsyncioKubeApi
from cloudstream.kube.duty import DutyStatus
from cloudstream.registry import Registry
from cloudstream.stream_server import StreamServer
from cloudstream.tunnel_tally import TunnelTally
from streamkit.service.metrics import counter, gauge, gauges


def tunnel_metrics(
    tally: TunnelTally, registry: Registry, streams: StreamServer
) -> Iterator[Metric]:
    """Tunnels, the sessions in them, and how long requests wait for an edge."""
    live = {wire: float(count) for wire, count in tally.live.items()}
    yield gauges("cloudstream_tunnels", "Tunnels that are open.", "wire", live)
    suspended = sum(node.is_suspended for node in registry.nodes())
    text = "Sessions that wait for their edge to come back."
    yield gauge("cloudstream_sessions_suspended", text, suspended)
    text = "Tunnels that began, by whether they resumed a session."
    connects = tally.connects.items()
    yield counter("cloudstream_tunnel_connects", text, ("wire", "session"), connects)
    text = "Tunnels that ended, by the code of the reason."
    yield counter("cloudstream_tunnel_disconnects", text, ("code",), tally.disconnects.items())
    sent, received = tally.traffic
    text = "Bytes in tunnels, TLS included."
    traffic = {("to_edge",): sent, ("from_edge",): received}.items()
    yield counter("cloudstream_tunnel_bytes", text, ("direction",), traffic)
    text = "Round trips to edge nodes, measured by heartbeats."
    round_trips = HistogramMetricFamily("cloudstream_tunnel_round_trip_seconds", text)
    tally.round_trips.add_to(round_trips)
    yield round_trips
    text = "How long requests waited for their edge's answer to begin, or for a refusal."
    opening = HistogramMetricFamily("cloudstream_request_open_seconds", text)
    streams.opening.add_to(opening)
    yield opening


def egress_metrics(egress: EgressServer) -> Iterator[Metric]:
    """What came by CONNECT."""
    text = "Connections of API servers that came by CONNECT."
    yield gauge("cloudstream_egress_connections", text, egress.live)
    text = "CONNECTs, by what became of them: edge, relayed, or the code of an error."
    yield counter("cloudstream_egress_connects", text, ("outcome",), egress.outcomes.items())


def api_metrics(api: AsyncioKubeApi, duties: Mapping[str, DutyStatus]) -> Iterator[Metric]:
    """How the Kubernetes API answers, and what has to be done there yet."""
    text = "Whether the Kubernetes API serves us, as of the last request."
    yield gauge("cloudstream_kube_api_up", text, not api.trouble)
    text = "Requests to the Kubernetes API that ended, by HTTP status."
    yield counter("cloudstream_kube_requests", text, ("verb", "status"), api.outcomes.items())
    text = "Work on the Kubernetes API that still has to succeed; serving goes on meanwhile."
    pending = {name.replace(" ", "-"): float(duty.pending) for name, duty in duties.items()}
    yield gauges("cloudstream_duty_pending", text, "duty", pending)
