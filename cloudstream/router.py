"""Which node a request is for."""

import logging
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from cloudstream.addresses import unmapped_address
from cloudstream.kube.pods import PodDirectory
from cloudstream.kubelet_path import Subject
from cloudstream.places import Places
from streamkit.errors import LookupFailed, NodeUnknown
from streamkit.wire.exchange import RequestHead, header_values
from streamkit.wire.pod_facts import PodFacts

log = logging.getLogger(__name__)

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and the same number for IPv6
_SOL_IPV6 = 41
_SOCKADDR_IN, _SOCKADDR_IN6 = 16, 28


class Router:
    """Finds the node of a request: by its pod, by the proxied node's name, by what was dialled."""

    def __init__(self, pods: PodDirectory | None, places: Places) -> None:
        self._pods = pods
        self._places = places

    async def find(self, request: RequestHead, subject: Subject, dialled: str) -> str:
        """The name of the node that shall answer, whether or not it is connected.

        A node that the API server's proxy names is the one that its user may use, whatever pod the
        path is about. ``dialled`` is the address that the caller connected to, before any
        redirection. Raises PodNotFound, PodNotScheduled, LookupFailed or NodeUnknown.
        """
        if subject.node_name:
            return subject.node_name
        lookup_error: LookupFailed | None = None
        if subject.pod_name and self._pods:
            try:
                return await self._by_pod(self._pods, subject)
            except LookupFailed as error:
                lookup_error = error
        if name := self._by_address(request, dialled):
            return name
        if lookup_error:
            raise lookup_error
        raise NodeUnknown(
            f"no connected edge node has the address {dialled}",
            hint="check the node's internal IP, and that its edge agent is connected",
        )

    def facts_for(self, node_name: str, subject: Subject, *, since: float) -> PodFacts | None:
        """What there is to tell the node about the request's pod; None where nothing is known.

        They are current if they are known to be, or were asked for ``since`` that monotonic time.
        """
        if not (self._pods and subject.pod_name):
            return None
        return self._pods.facts_of(subject.namespace, subject.pod_name, node_name, since=since)

    def can_ask_again(self, subject: Subject) -> bool:
        """Whether ``find_again`` may know better, should the node that was found not know the pod.

        What is known of a pod may be a little older than its last move.
        """
        return bool(subject.pod_name and self._pods)

    async def find_again(self, subject: Subject, refused: str, *, may_learn: bool) -> str | None:
        """The pod's node as the API has it now; None where nothing new is to be had.

        The node that refused ``may_learn`` more of the pod: then it may be asked again. What the
        API server's proxy has named stays the node. Raises as ``find`` does, but for LookupFailed:
        then nobody knows better.
        """
        if not self._pods:
            return None
        self._pods.doubt(subject.namespace, subject.pod_name)
        try:
            node_name = await self._pods.node_of(subject.namespace, subject.pod_name)
        except LookupFailed:
            return None
        if node_name == refused:
            return refused if may_learn else None
        return None if subject.node_name else node_name

    async def _by_pod(self, pods: PodDirectory, subject: Subject) -> str:
        node_name = await pods.node_of(subject.namespace, subject.pod_name)
        if self._places.is_known(node_name):
            return node_name
        # The pod may have moved since it was looked up.
        pods.doubt(subject.namespace, subject.pod_name)
        return await pods.node_of(subject.namespace, subject.pod_name)

    def _by_address(self, request: RequestHead, dialled: str) -> str:
        """The node's name by an address that was asked for, or by a name; empty: there is none."""
        hosts = header_values(request.headers, "host")[:1]
        for asked in (dialled, *map(host_without_port, hosts)):
            try:
                found = self._places.name_at(str(ip_address(asked)))
            except ValueError:
                found = asked if self._places.is_known(asked) else ""
            if found:
                return found
        return ""


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
