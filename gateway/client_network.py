"""The network that a client's address belongs to, for counting and remembering: a sender's machines share one."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def client_network(address: str, *, ipv4: int = 24, ipv6: int = 64) -> str:
    """`192.0.2.0/24` for an address in it, `` for what is no address. An IPv4 address that IPv6 maps is that address.

    Examples:
        >>> client_network("192.0.2.77"), client_network("2001:db8:1:2:3::4"), client_network("::ffff:192.0.2.1", ipv4=32)
        ('192.0.2.0/24', '2001:db8:1:2::/64', '192.0.2.1/32')
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(ipaddress.ip_network((found, ipv4 if found.version == 4 else ipv6), strict=False))
