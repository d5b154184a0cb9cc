"""Routes whose servers are mail exchangers: of a name, or of each recipient's domain. RFC 5321 5.1; design §5.

The resolver is asked for each link, and keeps what it heard for its time to live; links that lie idle are used again when the exchanger
they lead to comes first. One transaction goes to the exchangers of one domain.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import reduce

from typing_extensions import override

from gateway.config.models import RelayConfig
from gateway.errors import DomainError, LinkError
from gateway.relay.choosing import Candidate
from gateway.relay.link import Link
from gateway.relay.mx import Exchange
from gateway.relay.protocol import Capabilities
from gateway.relay.queueing import Turns
from gateway.relay.route import Route
from gateway.relay.routes import Server
from gateway.relay.server_pool import ServerPool

MAX_DOMAINS = 256
"""Domains whose exchangers a route remembers, for each worker; the one used longest ago is forgotten first."""
MAX_LEARNT = 16
"""Domains of a route's `domains` whose exchangers are asked for their EHLO before mail comes."""

Find = Callable[[str, int], Awaitable[list[Exchange]]]
"""Looks up a domain, for a port."""


class MxRoute(Route):
    """The exchangers of one domain."""

    def __init__(
        self,
        name: str,
        domain: str,
        port: int,
        settings: RelayConfig,
        *,
        draw: Callable[[], float],
        find: Find,
        pool: Callable[[Server], ServerPool],
        parent: ByDomain | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`parent`: the domain is the recipient's; otherwise it is the configuration's, and so are its faults."""
        super().__init__(name, (), settings, draw=draw, turns=turns)
        self._domain = domain
        self._port = port
        self._look_up = find
        self._pool = pool
        self._parent = parent

    @override
    def reuse(self) -> Link | None:
        """None: DNS may have changed, which `acquire` sees."""
        return None

    @property
    @override
    def capabilities(self) -> Capabilities | None:
        """Before its servers were met: what clients are told of the route, so that no parameter is lost on the way."""
        known = self._known()
        return self._parent.capabilities if known is None and self._parent is not None else known

    @property
    def known(self) -> Capabilities | None:
        """What is known of its own servers."""
        return self._known()

    async def look_up(self) -> None:
        """Find the servers; what fails here fails again when mail comes."""
        with suppress(LinkError):
            await self._find()

    @override
    async def probe(self, now: float) -> None:
        if not self.is_healthy(now):
            await _learn(self)

    @override
    async def _find(self) -> Sequence[Candidate[ServerPool]]:
        try:
            exchanges = await self._look_up(self._domain, self._port)
        except DomainError as error:
            if self._parent is not None:
                raise
            raise LinkError(self.name, error.what, enhanced="4.3.5") from error
        self._candidates = tuple(
            Candidate(self._pool(Server(one.address, self._port, mx_name=one.name)), priority=one.preference, weight=one.weight)
            for one in exchanges
        )
        return self._candidates


class ByDomain(Route):
    """`mx:`: a route for each domain. It has no link itself; `at` leads on."""

    def __init__(
        self, name: str, domains: Sequence[str], settings: RelayConfig, make: Callable[[ByDomain, str], MxRoute], *, default: str
    ) -> None:
        """`domains`: those known beforehand, the first of which also takes `<postmaster>`; `default` where there is none."""
        super().__init__(name, (), settings, draw=lambda: 0.0)
        self._make = make
        self._default = domains[0] if domains else default
        self._children: OrderedDict[str, MxRoute] = OrderedDict()
        self._first = [self.at(domain) for domain in domains[:MAX_LEARNT]]

    def at(self, domain: str) -> MxRoute:
        """The route of a domain in lower case; `` for that of `<postmaster>`."""
        domain = domain or self._default
        child = self._children.get(domain)
        if child is None:
            child = self._children[domain] = self._make(self, domain)
            if len(self._children) > MAX_DOMAINS:
                self._children.popitem(last=False)
        else:
            self._children.move_to_end(domain)
        return child

    @property
    @override
    def pools(self) -> list[ServerPool]:
        return list(dict.fromkeys(pool for child in self._children.values() for pool in child.pools))

    @property
    @override
    def capabilities(self) -> Capabilities | None:
        """What all exchangers met so far offer; nothing as long as none can be met, for lack of a domain to begin with."""
        met = [known for child in self._children.values() if (known := child.known) is not None]
        if not met:
            return None if self._first else Capabilities()
        different = {frozenset(known.keywords.items()): known for known in met}  # most servers are alike
        return reduce(Capabilities.common, different.values())

    @override
    def reuse(self) -> Link | None:
        return None

    @override
    def is_healthy(self, now: float) -> bool:
        """Also where there is no domain to begin with: nothing speaks against it."""
        return not self._first or super().is_healthy(now)

    @override
    async def probe(self, now: float) -> None:
        await asyncio.gather(*(child.probe(now) for child in self._first))

    @override
    async def learn(self) -> None:
        """Of each domain; those that share their best exchanger are asked once."""
        await asyncio.gather(*(child.look_up() for child in self._first))
        different = {child.pools[0]: child for child in self._first if child.pools}
        await asyncio.gather(*(_learn(child) for child in different.values()))
        if self.capabilities is None:
            raise LinkError(self.name, "no mail exchanger of its domains answers", enhanced="4.4.1")

    @override
    async def _find(self) -> Sequence[Candidate[ServerPool]]:
        raise LinkError(self.name, "mail exchangers of which domain?", enhanced="4.3.5")


async def _learn(route: Route) -> None:
    with suppress(LinkError):
        await route.learn()
