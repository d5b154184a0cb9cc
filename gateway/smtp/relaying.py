"""Who may relay where: the gateway is never an open relay. RFC 5321 2.3.10, 7.9; design §5.

A next hop usually trusts the gateway's address, so this is decided here, on the path as the client gave it,
before any plugin is asked; no plugin's answer undoes it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.config.addresses import UNIX
from gateway.config.models import ListenerConfig, RouteConfig
from gateway.session import ClientClass
from gateway.smtp.paths import Path
from gateway.smtp.replies import Reply, reply

_ROUTING: Final = frozenset("%!@")
_STRANGER: Final = ClientClass.STRANGER


class Network(NamedTuple):
    """A network as numbers: each connection is looked for in some, and those of `ipaddress` compare in Python."""

    version: int
    mask: int
    first: int


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks of a configuration list; `unix`, which is none, is left out. ValueError for what is none."""
    found = [ipaddress.ip_network(text, strict=False) for text in texts if text != UNIX]
    return tuple([Network(one.version, int(one.netmask), int(one.network_address)) for one in found])


def contains(listed: Sequence[Network], address: str) -> bool:
    """True when the address lies in one of them; an unknown or broken address lies in none."""
    if not listed:
        return False
    found = _parsed(address)
    if found is not None:
        of_address, number = found
        for version, mask, first in listed:
            if number & mask == first and version == of_address:
                return True
    return False


@lru_cache(maxsize=4096)
def _parsed(address: str) -> tuple[int, int] | None:
    """Version and number of an address, IPv4 where it is one in IPv6's clothes; None for what is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    one = found if mapped is None else mapped
    return one.version, int(one)


def is_for_next_hop(route: RouteConfig) -> bool:
    """Whether a stranger's recipients on this route are the next hop's own to refuse."""
    return "*" in route.domains and route.next_hop_decides is True


def stays(found: RouteConfig, chosen: str, client: ClientClass) -> Reply | None:
    """The refusal of a way that a plugin or the map chose for a recipient which only the route's next hop may let in."""
    if client is not ClientClass.STRANGER or chosen == found.name or not is_for_next_hop(found):
        return None
    return reply(451, "4.3.5", "Relaying is another next hop's to decide")


def _named(routes: Sequence[RouteConfig], name: str) -> RouteConfig:
    """The route of this name, else the first."""
    return next((route for route in routes if route.name == name), routes[0])


def route_of(
    path: Path,
    client: ClientClass,
    listener: ListenerConfig,
    routes: Sequence[RouteConfig],
    route_for: Callable[[str], RouteConfig | None],
) -> RouteConfig | Reply:
    """The route for this recipient of this client, or the refusal."""
    if not routes:
        return reply(451, "4.3.5", "No route is configured")
    if not path.domain:  # <postmaster>: RFC 5321 4.5.1
        return _named(routes, listener.default_route)
    route = route_for(path.domain_key)
    if client is not _STRANGER:
        if route is not None:
            return route
        # for whom authenticated, without a default the server that knows it
        is_known = client is ClientClass.AUTHENTICATED and not listener.default_route
        return _named(routes, listener.auth_route if is_known else listener.default_route)
    if route is None:
        return reply(550, "5.7.1", "Relaying denied: this domain is not served here")
    if not listener.routed_local_parts and not _ROUTING.isdisjoint(path.local_part):
        return reply(550, "5.7.1", "Relaying denied: routing characters in the local part")
    if route.next_hop_decides is True and is_for_next_hop(route) and route.client_address not in {"xclient", "proxy"}:
        # only those tell the next hop who asks; that a link has accepted one is seen to where it is taken (relay.client_links)
        return reply(451, "4.3.5", "Relaying is the next hop's to decide, and it does not know the client")
    return route
