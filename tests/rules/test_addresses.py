"""Only public addresses may be called, and what the operator allows; a public one is never refused."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.addresses import METADATA, AddressRules, address_problem, read_networks


def words(text: str) -> list[str]:
    return text.split()


NONE_ALLOWED = AddressRules()
INSIDE = words(
    "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.1.2.3 "
    "169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 "
    "192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 "
    "240.0.0.1 255.255.255.255 168.63.129.16 "
    ":: ::1 ::2 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:0 "
    "64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378::1 "
    "2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:0808:0808::1 3fff::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 "
    "fd20:ce::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 4000::1 8000::1 ::ffff:0:7f00:1"
)
PUBLIC = words(
    "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 160.79.104.10 "
    "169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.0 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 "
    "::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:200::1 2001:4860:4860::8888 2606:4700::1 2a00:1450::1 3ffe::1"
)


@pytest.mark.parametrize("text", INSIDE)
def test_what_is_inside_is_not_called(text: str) -> None:
    assert address_problem(ipaddress.ip_address(text), NONE_ALLOWED)


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_called(text: str) -> None:
    assert address_problem(ipaddress.ip_address(text), NONE_ALLOWED) is None


def test_an_operator_allows_networks_and_no_more() -> None:
    rules = AddressRules(read_networks(["10.1.0.0/16", "fd12::/32", "127.0.0.1"]))
    for text in ("10.1.2.3", "fd12::5", "127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"):
        assert address_problem(ipaddress.ip_address(text), rules) is None
    for text in ("10.2.0.1", "fd13::5", "127.0.0.2", "169.254.169.254", "::1"):
        assert address_problem(ipaddress.ip_address(text), rules)


def test_metadata_is_allowed_by_its_very_address_alone() -> None:
    wide = AddressRules(read_networks(["0.0.0.0/0", "::/0"]))
    for address in METADATA:
        assert address_problem(address, wide) == "of a cloud's metadata"
        assert address_problem(address, AddressRules(read_networks([str(address)]))) is None
        if isinstance(address, ipaddress.IPv4Address):  # nor in the clothes of IPv6
            for disguised in (f"::ffff:{address}", f"64:ff9b::{address}"):
                assert address_problem(ipaddress.ip_address(disguised), wide) == "of a cloud's metadata"
    assert address_problem(ipaddress.ip_address("10.0.0.1"), wide) is None


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/24", "example.com", "", "*"])
def test_what_is_no_network_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="write 10"):
        read_networks(["10.0.0.0/8", text])


@given(st.ip_addresses(v=4))
def test_python_finds_no_private_address_that_we_call(address: ipaddress.IPv4Address) -> None:
    if address_problem(address, NONE_ALLOWED) is None:
        assert address.is_global
    embedded = [ipaddress.IPv6Address(prefix | int(address)) for prefix in (0xFFFF << 32, 0x64FF9B << 96)]
    for inner in embedded:
        assert address_problem(inner, NONE_ALLOWED) == address_problem(address, NONE_ALLOWED)


@given(st.ip_addresses(v=6))
def test_nor_of_ipv6(address: ipaddress.IPv6Address) -> None:
    if address_problem(address, NONE_ALLOWED) is None and address.ipv4_mapped is None:
        assert address.is_global
