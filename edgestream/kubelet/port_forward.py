"""``/portForward``: connections to ports of a pod."""

import json

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import PortForwardRequest
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.pod_of import existing_pod
from edgestream.kubelet.query import parse_query
from edgestream.kubelet.router import Parameters
from edgestream.kubelet.runtime_stream import stream
from streamkit.wire.exchange import RequestHead, header_values


class PortForward:
    """The route; ``dial_deadline`` is the streaming server's, in seconds.

    It checks the ports, then the pod, then asks the runtime, and relays its streaming server.
    """

    def __init__(self, client: CriClient, *, dial_deadline: float) -> None:
        self._client = client
        self._dial_deadline = dial_deadline

    async def forward(self, exchange: Exchange, parameters: Parameters) -> None:
        """Forward ports of the pod's newest sandbox."""
        ports = parse_ports(exchange.request)
        pod = await existing_pod(self._client, exchange.request, parameters)
        uid = parameters.get("uid")
        if uid is not None and not pod.has_uid(uid, pod.active_uid or pod.uid):
            raise KubeletAnswer(404, "pod not found")
        request = PortForwardRequest(pod_sandbox_id=pod.forward_sandbox().id, port=ports)
        url = await self._client.port_forward_url(request)
        await stream(exchange, url, dial_deadline=self._dial_deadline)


def parse_ports(request: RequestHead) -> list[int]:
    """The ports that a WebSocket client has to name up front; SPDY names them stream by stream.

    Raises a KubeletAnswer for what is no port.
    """
    is_websocket = any(
        value.lower() == "websocket" for value in header_values(request.headers, "upgrade")[:1]
    )
    if not (is_websocket and request.is_upgrade):
        return []
    values = parse_query(request.query).get("port", [])
    if not values:
        raise KubeletAnswer(400, 'query parameter "port" is required')
    ports = []
    for value in values:
        if not value:
            raise KubeletAnswer(400, 'query parameter "port" cannot be empty')
        ports += [_parse_port(port) for port in value.split(",")]
    return ports


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
