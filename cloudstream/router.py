"""Which node a request is for."""

import logging
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from cloudstream.addresses import unmapped_address
from cloudstream.kube.pods import PodDirectory
from cloudstream.kubelet_path import Subject
from cloudstream.node_session import NodeSession
from cloudstream.registry import Registry
from streamkit.errors import LookupFailed, NodeNotConnected, NodeUnknown
from streamkit.wire.exchange import RequestHead, header_values
from streamkit.wire.pod_facts import PodFacts

log = logging.getLogger(__name__)

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and the same number for IPv6
_SOL_IPV6 = 41
_SOCKADDR_IN, _SOCKADDR_IN6 = 16, 28


class Router:
    """Finds the node of a request: by its pod, by the proxied node's name, by what was dialled."""

    def __init__(self, registry: Registry, pods: PodDirectory | None, *, reconnect: float) -> None:
        self._registry = registry
        self._reconnect = reconnect
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
            return await self._registry.awaited(subject.node_name, within=self._reconnect)
        if node := self._by_address(request, dialled):
            return node
        if lookup_error:
            raise lookup_error
        raise NodeUnknown(
            f"no connected edge node has the address {dialled}",
            hint="check the node's internal IP, and that its edge agent is connected",
        )

    def facts_for(self, node: NodeSession, subject: Subject, *, since: float) -> PodFacts | None:
        """What there is to tell the node about the request's pod.

        They are current if they are known to be, or were asked for ``since`` that monotonic time.
        None where nothing is known, or where the session has no way to tell it.
        """
        if not (self._pods and subject.pod_name and node.session.carries_pod_facts):
            return None
        return self._pods.facts_of(subject.namespace, subject.pod_name, node.name, since=since)

    def can_ask_again(self, subject: Subject) -> bool:
        """Whether ``find_again`` may know better, should the node that was found not know the pod.

        What is known of a pod may be a little older than its last move.
        """
        return bool(subject.pod_name and self._pods)

    async def find_again(
        self, subject: Subject, refused: NodeSession, told: PodFacts | None
    ) -> NodeSession | None:
        """The pod's node as the API has it now; None where nothing new is to be had.

        The one that refused may be asked again if it was ``told`` no current facts, and can be now.
        Raises as ``find`` does, but for LookupFailed: then nobody knows better.
        """
        if not self._pods:
            return None
        self._pods.doubt(subject.namespace, subject.pod_name)
        try:
            node_name = await self._pods.node_of(subject.namespace, subject.pod_name)
        except LookupFailed:
            return None
        if node_name == refused.name:
            may_learn = refused.session.carries_pod_facts and not (told and told.is_current)
            return refused if may_learn else None
        return await self._registry.awaited(node_name, within=self._reconnect)

    async def _by_pod(self, pods: PodDirectory, subject: Subject) -> NodeSession:
        node_name = await pods.node_of(subject.namespace, subject.pod_name)
        try:
            return self._registry.by_name(node_name)
        except NodeNotConnected:
            # The pod may have moved since it was looked up.
            pods.doubt(subject.namespace, subject.pod_name)
            node_name = await pods.node_of(subject.namespace, subject.pod_name)
            return await self._registry.awaited(node_name, within=self._reconnect)

    def _by_address(self, request: RequestHead, dialled: str) -> NodeSession | None:
        if node := self._registry.by_address(dialled) or self._registry.find(dialled):
            return node
        for host in header_values(request.headers, "host")[:1]:
            name = host_without_port(host)
            try:
                return self._registry.by_address(str(ip_address(name)))
            except ValueError:
                return self._registry.find(name)
        return None


def host_without_port(host: str) -> str:
    """The host of a Host header; an IPv6 literal loses its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def dialled_address(sock: socket.socket) -> str:
    """The address that the caller dialled, seen through DNAT on this host where there was one."""
    local = unmapped_address(sock.getsockname()[0].partition("%")[0])
    try:
        # An IPv4 connection is asked for as such, on a socket that takes both versions too.
        if isinstance(local, IPv4Address):
            original = sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN)
            return str(IPv4Address(original[4:8]))
        original = sock.getsockopt(_SOL_IPV6, _SO_ORIGINAL_DST, _SOCKADDR_IN6)
        return str(IPv6Address(original[8:24]))
    except OSError:
        # No conntrack entry: nothing redirected this connection.
        return str(local)
