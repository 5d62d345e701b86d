"""Which addresses may be called on a user's word: those of the public Internet, and networks that the operator allows.

Everything else is somebody's inside: this machine, its network, its cloud's metadata. The table is IANA's registries of
special-purpose addresses (RFC 6890 and their newer entries), written out, so that it does not change with Python. Of
IPv6 only global unicast (2000::/3) is public, less what stands in the table. An IPv4 address inside an IPv6 one is
judged as itself where a network would really deliver it there (mapped, NAT64); older ways (6to4, Teredo, compatible)
are not used any more but to hide an address, and are refused.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

import msgspec

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_SPECIAL_IPV4: Final = tuple(
    (ipaddress.IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "of no machine (this network)"),
        ("10.0.0.0/8", "of a private network"),
        ("100.64.0.0/10", "of a provider's inner network (CGNAT)"),
        ("127.0.0.0/8", "this machine itself"),
        ("169.254.0.0/16", "of a single link"),
        ("172.16.0.0/12", "of a private network"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "of relays that are gone (6to4)"),
        ("192.168.0.0/16", "of a private network"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "of many machines (multicast)"),
        ("240.0.0.0/4", "reserved"),
    )
)
_SPECIAL_IPV6: Final = tuple(
    (ipaddress.IPv6Network(network), what)
    for network, what in (
        ("::/128", "of no machine (unspecified)"),
        ("::1/128", "this machine itself"),
        ("::/96", "an IPv4 address in disguise (compatible)"),
        ("64:ff9b:1::/48", "of a private network (NAT64)"),
        ("100::/64", "that nothing answers"),
        ("2001::/32", "an IPv4 address in disguise (Teredo)"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "an IPv4 address in disguise (6to4)"),
        ("3fff::/20", "for documentation"),
        ("5f00::/16", "of segments inside a network"),
        ("fc00::/7", "of a private network"),
        ("fe80::/10", "of a single link"),
        ("fec0::/10", "of a private network"),
        ("ff00::/8", "of many machines (multicast)"),
    )
)
_PUBLIC_IPV6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google, Oracle, DigitalOcean, OpenStack
        "169.254.170.2",  # credentials of AWS tasks
        "169.254.170.23",  # credentials of pods on AWS
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google, by IPv6
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's agent, a public address
        "192.0.0.192",  # Oracle
        "169.254.42.42",  # Scaleway
    )
)
"""Where clouds tell a machine its credentials. Allowed only by an entry for the very address."""


class AddressRules(msgspec.Struct, frozen=True):
    """`allowed` networks are the operator's; one that holds everything allows everything but `METADATA`."""

    allowed: tuple[IPNetwork, ...] = ()


def read_networks(texts: Iterable[str]) -> tuple[IPNetwork, ...]:
    """Raises ValueError with the first text that is no address or network."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f"{text!r} is no address or network; write 10.0.0.7 or 10.0.0.0/24") from error
    return tuple(networks)


def address_problem(address: IPAddress, rules: AddressRules) -> str | None:
    """Why it may not be called: what it is, to go on after `is an address …`; None if it may."""
    inner = _inside(address)
    if any(address in network or inner in network for network in _opening(inner, rules)):
        return None
    if inner in METADATA:
        return "of a cloud's metadata"
    if isinstance(inner, ipaddress.IPv6Address) and inner.scope_id is not None:
        return "of a single link"
    table = _SPECIAL_IPV4 if isinstance(inner, ipaddress.IPv4Address) else _SPECIAL_IPV6
    for network, what in table:
        if inner in network:
            return what
    public = isinstance(inner, ipaddress.IPv4Address) or inner in _PUBLIC_IPV6
    return None if public else "that is not public"


def _inside(address: IPAddress) -> IPAddress:
    """The IPv4 address that a mapped or NAT64 one leads to; any other as it is."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _opening(inner: IPAddress, rules: AddressRules) -> Iterable[IPNetwork]:
    """The allowed networks that count for what an address leads to."""
    return (network for network in rules.allowed if inner not in METADATA or network.num_addresses == 1)
