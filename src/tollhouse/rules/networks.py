"""What many addresses of one place have in common: a /24 of IPv4, a /48 of IPv6, which is what one site has
(RFC 6177).
"""

import ipaddress


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
