"""A client's name as a server would find it by itself: PTR, and the name leads back to the address (RFC 8601 2.7.3).

XCLIENT and XFORWARD say it, since the next hop does not look once it was told of a client.
"""

from __future__ import annotations

import ipaddress

from gateway.context import Resolver
from gateway.errors import DnsError
from gateway.relay.identity import TEMPORARILY_UNAVAILABLE, parsed_address

MAX_NAMES = 5
"""Names of one address that are followed."""


async def reverse_name(address: str, resolver: Resolver) -> str:
    """The verified name of an address, `` for none, TEMPORARILY_UNAVAILABLE when DNS did not say. Raises nothing."""
    found = parsed_address(address)
    if found is None:
        return ""
    try:
        names = (await resolver.query(found.reverse_pointer, "PTR")).records[:MAX_NAMES]
        for name in names:
            if await _leads_back(str(name), found, resolver):
                return str(name)
    except DnsError:
        return TEMPORARILY_UNAVAILABLE
    return ""


async def _leads_back(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, resolver: Resolver) -> bool:
    answer = await resolver.query(name, "A" if address.version == 4 else "AAAA")
    return any(parsed_address(str(one)) == address for one in answer.records)
