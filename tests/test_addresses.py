"""Which addresses may be fetched from, in every spelling that hides another one."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.http.addresses import METADATA, Address, embedded_ipv4, may_fetch_from

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001:81b::200e"]
NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104 - unspecified
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",  # carriers' NAT
    "127.0.0.1",
    "127.255.0.1",
    "169.254.1.1",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.0.100",
    "192.0.0.192",
    "192.0.2.1",  # documentation
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",  # benchmarking
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",  # multicast
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "100::1",  # discard
    "2001::1",  # Teredo
    "2001:2::1",  # benchmarking
    "2001:1::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",  # not given out
    "5f00::1",
    "64:ff9b:1::8.8.8.8",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "2002:808:808::1",
]
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def hiding(hidden: Address) -> list[IPv6Address]:
    """Every form of an IPv6 address that leads to this IPv4 address."""
    number = int(hidden)
    return [
        IPv6Address(number),
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x20010000 << 96 | number << 64 | 0xF7F7F7F7),  # Teredo's server
        IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | number ^ 0xFFFFFFFF),  # and client
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x64FF9B0001 << 80 | number),
    ]


ipv4 = st.ip_addresses(v=4)
hidden_ipv4 = ipv4.flatmap(lambda address: st.sampled_from(hiding(address)))
any_address = st.one_of(st.ip_addresses(), hidden_ipv4)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_fetched_from(text: str) -> None:
    assert may_fetch_from(ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_no_other_address_may_be_fetched_from(text: str) -> None:
    assert not may_fetch_from(ip_address(text))


@pytest.mark.parametrize("address", METADATA, ids=str)
def test_credentials_of_a_cloud_are_out_of_reach_whatever_is_allowed(address: Address) -> None:
    assert not may_fetch_from(address, EVERYTHING)
    assert not may_fetch_from(address, [ipaddress.ip_network(address)])
    if isinstance(address, IPv4Address):
        assert not any(may_fetch_from(form, EVERYTHING) for form in hiding(address))


@given(any_address)
def test_only_global_addresses_that_hide_no_private_one_may_be_fetched_from(
    address: Address,
) -> None:
    if may_fetch_from(address):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_private
        if isinstance(address, IPv6Address):
            assert all(hidden.is_global for hidden in embedded_ipv4(address))


@given(ipv4)
def test_every_form_shows_the_ipv4_address_that_it_hides(address: Address) -> None:
    for form in hiding(address):
        assert address in embedded_ipv4(form)


@given(ipv4)
def test_an_address_of_nat64_is_judged_as_the_one_that_it_leads_to(address: Address) -> None:
    behind_nat64 = IPv6Address(f"64:ff9b::{address}")
    office = [ip_network("10.1.0.0/16")]
    assert may_fetch_from(behind_nat64) == may_fetch_from(address)
    assert may_fetch_from(behind_nat64, office) == may_fetch_from(address, office)


@given(any_address)
def test_what_is_allowed_may_be_fetched_from_and_nothing_beside_it(address: Address) -> None:
    office = [ip_network("10.1.0.0/16"), ip_network("fd12::/32")]
    own = any(address in network for network in office)
    behind_nat64 = str(address).startswith("64:ff9b::")
    if not behind_nat64:
        assert may_fetch_from(address, office) == (own or may_fetch_from(address))


def test_a_private_network_that_is_allowed_is_not_allowed_in_disguise() -> None:
    loopback = [ip_network("127.0.0.0/8")]
    assert may_fetch_from(ip_address("127.0.0.1"), loopback)
    assert not may_fetch_from(ip_address("::ffff:127.0.0.1"), loopback)
    assert not may_fetch_from(ip_address("2002:7f00:1::"), loopback)
