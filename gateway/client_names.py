"""The names of a client, for plugins that tell other programs of it: as XCLIENT told them, else from DNS (RFC 1912 2.1)."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING

from gateway.errors import DnsError

if TYPE_CHECKING:
    from gateway.context import Context
    from gateway.session import Session

__all__ = [
    "Names",
    "client_names",
]

MAX_ADDRESSES = 100
"""Addresses of a name that are compared."""

Names = tuple[str, str]
"""The name that leads back to the address, and the one that need not; `` each where there is none."""


async def client_names(session: Session, context: Context, limit: float) -> Names:
    """Both names, looked up within so many seconds. Failures of DNS are no names."""
    if session.client_name or session.client_reverse_name:
        return session.client_name, session.client_reverse_name or session.client_name
    try:
        address = ipaddress.ip_address(session.client_address)
    except ValueError:
        return "", ""
    found = ""
    try:
        async with asyncio.timeout(limit):
            pointers = (await context.resolver.query(address.reverse_pointer, "PTR")).records
            if not pointers:
                return "", ""
            found = str(pointers[0]).rstrip(".").lower()
            answer = await context.resolver.query(found, "A" if address.version == 4 else "AAAA")
    except (DnsError, TimeoutError):
        return "", found
    return (found if any(_same(str(record), address) for record in answer.records[:MAX_ADDRESSES]) else ""), found


def _same(text: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return ipaddress.ip_address(text) == address
    except ValueError:
        return False
