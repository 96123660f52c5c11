"""``/portForward``: connections to ports of a pod."""

import json
import logging

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import SANDBOX_READY, PodSandbox, PortForwardRequest
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.pod_connection import ForwardingFailed
from edgestream.kubelet.pod_network import CannotEnter, PodNetworks
from edgestream.kubelet.pod_of import existing_pod
from edgestream.kubelet.query import parse_query
from edgestream.kubelet.router import Parameters
from edgestream.kubelet.runtime_stream import require_upgrade, stream
from edgestream.kubelet.spdy_forwarding import SpdyForwarding, accept_spdy
from streamkit.wire.exchange import RequestHead, header_values

MAX_PORTS = 100
"""Ports of one WebSocket, which has two channels for each and one byte for their numbers."""

log = logging.getLogger(__name__)


class PortForward:
    """The route; ``dial_deadline`` is the streaming server's, in seconds.

    It checks the ports, then the pod, and connects to the ports in the pod's own network. Where
    that is out of reach, the runtime's streaming server is relayed, which connects as well but
    drops what comes more than a second after either side's half-close.
    """

    def __init__(self, client: CriClient, networks: PodNetworks, *, dial_deadline: float) -> None:
        self._client = client
        self._networks = networks
        self._dial_deadline = dial_deadline
        self._told = ""

    async def forward(self, exchange: Exchange, parameters: Parameters) -> None:
        """Forward ports of the pod's newest sandbox."""
        ports = parse_ports(exchange.request)
        pod = await existing_pod(self._client, exchange.request, parameters)
        uid = parameters.get("uid")
        if uid is not None and not pod.has_uid(uid, pod.active_uid or pod.uid):
            raise KubeletAnswer(404, "pod not found")
        sandbox = pod.forward_sandbox()
        if await self._can_enter(sandbox):
            require_upgrade(exchange.request)
            await self._serve(exchange, sandbox.id, ports)
        else:
            request = PortForwardRequest(pod_sandbox_id=sandbox.id, port=ports)
            url = await self._client.port_forward_url(request)
            await stream(exchange, url, dial_deadline=self._dial_deadline)

    async def _can_enter(self, sandbox: PodSandbox) -> bool:
        if sandbox.state != SANDBOX_READY:
            return False  # the runtime says why that can't be forwarded
        try:
            await self._networks.check(sandbox.id)
        except ForwardingFailed:
            return False  # it stops just now
        except CannotEnter as error:
            if self._told != (why := str(error)):
                self._told = why
                log.warning("port-forward goes through the container runtime: %s", why)
            return False
        return True

    async def _serve(self, exchange: Exchange, sandbox_id: str, ports: list[int]) -> None:
        found = self._networks.ports_of(sandbox_id)
        if _is_websocket(exchange.request):
            # Here because the library is large, and few clients are of this kind.
            from edgestream.kubelet.websocket_forwarding import (
                WebSocketForwarding,
                accept_websocket,
            )

            await exchange.send_head(accept_websocket(exchange.request))
            await WebSocketForwarding(exchange, found, ports).run()
        else:
            await exchange.send_head(accept_spdy(exchange.request))
            await SpdyForwarding(exchange, found).run()


def parse_ports(request: RequestHead) -> list[int]:
    """The ports that a WebSocket client has to name up front; SPDY names them stream by stream.

    Raises a KubeletAnswer for what is no port.
    """
    if not _is_websocket(request):
        return []
    values = parse_query(request.query).get("port", [])
    if not values:
        raise KubeletAnswer(400, 'query parameter "port" is required')
    ports = []
    for value in values:
        if not value:
            raise KubeletAnswer(400, 'query parameter "port" cannot be empty')
        ports += [_parse_port(port) for port in value.split(",")]
    if len(ports) > MAX_PORTS:
        raise KubeletAnswer(400, f'query parameter "port" names more than {MAX_PORTS} ports')
    return ports


def _is_websocket(request: RequestHead) -> bool:
    upgrades = header_values(request.headers, "upgrade")[:1]
    return request.is_upgrade and any(value.lower() == "websocket" for value in upgrades)


def _parse_port(text: str) -> int:
    quoted = json.dumps(text, ensure_ascii=False)
    digits = text.lstrip("0") or "0"
    why = ""
    if not (text.isascii() and text.isdigit()):
        why = "invalid syntax"
    elif len(digits) > 5 or int(digits) > 65535:
        why = "value out of range"
    if why:
        raise KubeletAnswer(
            400,
            f"unable to parse {quoted} as a port: strconv.ParseUint: parsing {quoted}: {why}",
        )
    if digits == "0":
        raise KubeletAnswer(400, f"port {quoted} must be > 0")
    return int(digits)
