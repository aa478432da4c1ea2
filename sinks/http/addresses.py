"""Which addresses the service may fetch from: public ones, and those that its settings allow."""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, OpenStack and most others
        "169.254.170.2",  # AWS, of a container
        "169.254.170.23",  # AWS, of a pod
        "169.254.0.23",  # Tencent
        "168.63.129.16",  # Azure's host: a public address
        "192.0.0.192",  # Oracle
        "100.100.100.200",  # Alibaba
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS, of a pod
        "fd20:ce::254",  # Google
    )
)
"""Where clouds give a machine its credentials. No setting allows these."""

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        # What `is_global` takes for public: all of it in some versions of Python, or all versions.
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
"""All that is given out so far; most forms that hold an IPv4 address are outside."""
_COMPATIBLE = ipaddress.ip_network("::/96")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")


def may_fetch_from(address: Address, allowed: Iterable[Network] = ()) -> bool:
    """True for a public address, or one that is in an allowed network; False for METADATA.

    An address of NAT64 (RFC 6052) is judged as the IPv4 address that it leads to: in a network
    without IPv4, every host that has nothing else gets one.
    """
    behind = [] if isinstance(address, ipaddress.IPv4Address) else embedded_ipv4(address)
    # A zone (`fe80::1%eth0`) is of this machine only.
    if "%" in str(address) or not METADATA.isdisjoint([address, *behind]):
        return False
    if any(address in network for network in allowed):
        return True
    if address in _NAT64:
        return all(may_fetch_from(each, allowed) for each in behind)
    return _is_public(address)


def embedded_ipv4(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that a packet to this one may lead to."""
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in (_COMPATIBLE, _NAT64, _LOCAL_NAT64)):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_IPV6:
        return False
    if address.is_multicast or any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global
