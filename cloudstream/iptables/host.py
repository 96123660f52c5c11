"""What there is to know of the network in which this process runs."""

import socket
from ipaddress import ip_address
from pathlib import Path

from streamkit.errors import PacketFilterError

_ROUTES, _ROUTES6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_NO_GATE = 0x0200
"""RTF_REJECT: a route that leads nowhere."""


def check_network(host_address: str) -> None:
    """Make sure that this is the host's network and not a pod's, where rules have no effect.

    ``host_address`` is the host's own, if the caller knows it; else a default route has to do.
    Raises PacketFilterError.
    """
    if host_address:
        if not is_local(host_address):
            raise PacketFilterError(
                f"this is not the host's network: it has no address {host_address}",
                hint="run the pod with hostNetwork: true",
            )
    elif not has_default_route():
        raise PacketFilterError(
            "this does not look like the host's network: it has no default route",
            hint="run the pod with hostNetwork: true, or tell the host's address with --host-ip",
        )


def is_local(address: str) -> bool:
    """Whether it is an address of this network's own interfaces."""
    try:
        found = ip_address(address)
        family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except (OSError, ValueError):
        return False
    return True


def has_default_route(routes: Path = _ROUTES, routes6: Path = _ROUTES6) -> bool:
    """Whether the main routing table has one, for either IP version."""
    # Iface Destination Gateway Flags RefCnt Use Metric Mask ...
    for line in _lines(routes)[1:]:
        words = line.split()
        if words[1] == words[7] == "0" * 8 and not int(words[3], 16) & _NO_GATE:
            return True
    # destination prefix source prefix next-hop metric refcnt use flags device
    for line in _lines(routes6):
        words = line.split()
        is_default = words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo"
        if is_default and not int(words[8], 16) & _NO_GATE:
            return True
    return False


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
