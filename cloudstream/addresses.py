"""IP addresses in one spelling, so that those from different sources can be compared."""

from ipaddress import IPv4Address, IPv6Address, ip_address


def unmapped_address(text: str) -> IPv4Address | IPv6Address:
    """The address; an IPv4 one that a dual-stack socket shows as IPv6 (RFC 4291 §2.5.5.2) as IPv4.

    Raises ValueError for what is no address.
    """
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
