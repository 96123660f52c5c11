"""Which node a request is for."""

import logging
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from cloudstream.kube import PodDirectory
from cloudstream.kubelet_path import Subject
from cloudstream.node_session import NodeSession
from cloudstream.registry import Registry
from streamkit.errors import LookupFailed, NodeNotConnected, NodeUnknown
from streamkit.wire.exchange import RequestHead, header_values

log = logging.getLogger(__name__)

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and the same number for IPv6
_SOL_IPV6 = 41


class Router:
    """Finds the node of a request: by its pod, by the proxied node's name, by what was dialled."""

    def __init__(self, registry: Registry, pods: PodDirectory | None) -> None:
        self._registry = registry
        self._pods = pods

    async def find(self, request: RequestHead, subject: Subject, dialled: str) -> NodeSession:
        """The connected node that shall answer.

        ``dialled`` is the address that the caller connected to, before any redirection. Raises
        PodNotFound, PodNotScheduled, LookupFailed, NodeNotConnected or NodeUnknown.
        """
        lookup_error: LookupFailed | None = None
        if subject.pod_name and self._pods:
            try:
                return await self._by_pod(self._pods, subject)
            except LookupFailed as error:
                lookup_error = error
        if subject.node_name:
            return self._registry.by_name(subject.node_name)
        if node := self._by_address(request, dialled):
            return node
        if lookup_error:
            raise lookup_error
        raise NodeUnknown(
            f"no connected edge node has the address {dialled}",
            hint="check the node's internal IP, and that its edge agent is connected",
        )

    def doubt(self, subject: Subject) -> None:
        """The node that was found did not know the pod."""
        if subject.pod_name and self._pods:
            self._pods.doubt(subject.namespace, subject.pod_name)

    async def _by_pod(self, pods: PodDirectory, subject: Subject) -> NodeSession:
        node_name = await pods.node_of(subject.namespace, subject.pod_name)
        try:
            return self._registry.by_name(node_name)
        except NodeNotConnected:
            # The pod may have moved since it was looked up.
            pods.doubt(subject.namespace, subject.pod_name)
            node_name = await pods.node_of(subject.namespace, subject.pod_name)
            return self._registry.by_name(node_name)

    def _by_address(self, request: RequestHead, dialled: str) -> NodeSession | None:
        if node := self._registry.by_address(dialled):
            return node
        for host in header_values(request.headers, "host")[:1]:
            name = host_without_port(host)
            if node := self._registry.by_address(name):
                return node
            if _as_address(name) is None and name:
                try:
                    return self._registry.by_name(name)
                except NodeNotConnected:
                    return None
        return None


def host_without_port(host: str) -> str:
    """The host of a Host header; an IPv6 literal loses its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _as_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def dialled_address(sock: socket.socket) -> str:
    """The address that the caller dialled, seen through DNAT on this host where there was one."""
    try:
        if sock.family == socket.AF_INET:
            original = sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
            return socket.inet_ntop(socket.AF_INET, original[4:8])
        original = sock.getsockopt(_SOL_IPV6, _SO_ORIGINAL_DST, 28)
        return _unmapped(struct.unpack("!16s", original[8:24])[0])
    except OSError:
        # No conntrack entry: nothing redirected this connection.
        return _unmapped(socket.inet_pton(sock.family, sock.getsockname()[0].partition("%")[0]))


def _unmapped(packed: bytes) -> str:
    address = ip_address(packed)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)
