"""What many addresses of one place have in common: a /24 of IPv4, a /48 of IPv6, which is what one site has
(RFC 6177).
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_HOPS: Final = 32


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Whose connection it is: the peer's, or where a trusted proxy stands there, the last address of its
    `X-Forwarded-For` that is no trusted proxy's.
    """
    found = peer
    for hop in (peer, *forwarded_for.split(",")[: -MAX_HOPS - 1 : -1]):
        if not hop.strip():
            continue
        found = hop.strip()
        try:
            address = ipaddress.ip_address(found)
        except ValueError:
            return found
        if not any(address in network for network in trusted):
            return found
    return found


def network_of(address: str) -> str:
    """The network of an address; what is no address is its own."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found.packed[:6] + bytes(10), 48)))
        found = found.ipv4_mapped
    return str(ipaddress.ip_network((found.packed[:3] + bytes(1), 24)))
