"""The relay of a worker: all routes with their servers, and what is known of them. RFC 5321 3.6, 5.1."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from gateway.config.addresses import parse_mx
from gateway.config.models import RelayConfig, RouteConfig, ServerEntry
from gateway.config.plain import plain
from gateway.context import Resolver
from gateway.errors import LinkError
from gateway.native import mypyc_attr
from gateway.relay.bound import BoundLink
from gateway.relay.choosing import Candidate
from gateway.relay.client_links import ForwardedLinks, IntroducedLinks, OwnLinks, ProxiedLinks
from gateway.relay.exchangers import ByDomain, MxRoute
from gateway.relay.handover import Handover, Links
from gateway.relay.identity import ClientFacts
from gateway.relay.mx import Exchange, find_exchanges, has_null_mx
from gateway.relay.ourselves import Ourselves
from gateway.relay.protocol import Capabilities
from gateway.relay.queueing import CongestedError, Turns
from gateway.relay.route import Route
from gateway.relay.routes import Server, parse_server
from gateway.relay.server_pool import ServerPool
from gateway.relay.setup import PLAIN, LinkSetup
from gateway.smtp.replies import Reply

MAX_OTHER_ROUTES: Final = 256
"""Servers named by a route map or by plugins (`redirect`) that are remembered at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What a route wants of its links."""

    turns: Turns | None = None
    source: tuple[str, ...] = ()
    setup: LinkSetup = PLAIN
    decides: bool = False
    """The next hop refuses strangers' relaying itself."""


_USUAL: Final = _Terms()


@mypyc_attr(allow_interpreted_subclasses=True)
class Relay:
    """All routes of a worker."""

    def __init__(
        self,
        routes: Sequence[RouteConfig],
        settings: RelayConfig,
        *,
        server_name: str,
        inbox_address: tuple[str, int] | None = None,
        draw: Callable[[], float] = random.random,
        resolver: Resolver | None = None,
        listens: Sequence[tuple[str, int]] = (),
        directory: Path | None = None,
    ) -> None:
        """`draw`: numbers from 0 up to 1, by which one of several equal servers is chosen. `resolver`: needed for `mx:`.

        `listens`: our own listeners, which no mail exchanger may lead to. `directory`: where relative file names of the routes
        begin. ConfigError when one of the files cannot be used.
        """
        self._settings = plain(settings)
        self._draw = draw
        self._name = server_name
        self._inbox = inbox_address
        self._resolver = resolver
        self._ourselves = Ourselves(server_name, listens)
        self._directory = directory
        self._pools: weakref.WeakValueDictionary[tuple[Server, LinkSetup, str], ServerPool] = weakref.WeakValueDictionary()
        """Held by the routes that lead there and by their links."""
        self._routes = {route.name: self._configured(route) for route in routes}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._others: dict[str, Route] = {}
        self._own: dict[str, OwnLinks] = {}
        """By session."""
        self._learning: dict[str, asyncio.Task[None]] = {}

    def handover(self, route: str, client: ClientFacts | Callable[[], ClientFacts], bound: BoundLink | None = None) -> Handover:
        """The way of one transaction to the route's next hop. `route` may be a server too, as a plugin's `redirect` names it.

        `client`: who it is for, or what says so where the next hop is told. `bound`: the client's own link to it. LinkError when it is neither. The caller ends it with `abandon` in every case.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if bound is not None:
            return Handover(bound, self._loop)
        found = self._routes.get(route) or self._find(route)
        if found.client_address == "received":
            return Handover(found, self._loop)
        return Handover(self._links_for(found, client if isinstance(client, ClientFacts) else client()), self._loop)

    def _links_for(self, route: Route, client: ClientFacts) -> Links:
        """The route's links, on which the next hop is told who the client is."""
        if route.client_address == "received":
            return route
        own = self._own.get(client.session)
        if own is None:
            own = OwnLinks()
            own.is_over = not client.session
            if client.session:
                self._own[client.session] = own
        if route.client_address == "xforward":
            return ForwardedLinks(route, client, own, self._resolver)
        if route.client_address == "xclient":
            return IntroducedLinks(route, client, own, self._resolver)
        return ProxiedLinks(route, client, own)

    def session_over(self, session: str) -> None:
        """A client's session has ended: links that were its own are closed."""
        own = self._own.pop(session, None)
        if own is not None:
            own.end()

    async def bind(self, route: str, client: ClientFacts, *, on_lost: Callable[[], None]) -> BoundLink:
        """A new link to the route for this client alone, until it is closed. LinkError."""
        found = self._find(route)
        links = self._links_for(found, replace(client, ident="", is_stranger=False))  # AUTH says who it is
        return BoundLink(route, found, await links.acquire(fresh=True), on_lost)

    async def ask(self, route: str, line: bytes, client: ClientFacts) -> Reply:
        """The reply to one command outside of a transaction, on a clean link; a second one where the first has ended. LinkError."""
        found = self._links_for(self._find(route), client)
        for is_last in (False, True):
            link = await found.acquire(fresh=is_last)
            try:
                answer = await link.ask(line, self._settings.reply_timeout, last=True)
            except LinkError:
                found.discard(link)
                if is_last or link.is_hung:
                    raise
                continue
            except BaseException:
                link.fail(LinkError(link.next_hop, "given up"))
                found.discard(link)
                raise
            if not answer.is_positive:
                link.refusals += 1
            found.release(link)
            if answer.code != 421 or is_last:
                return answer
        raise LinkError(route, "no answer")

    async def accepts_no_mail(self, domain: str) -> bool:
        """The domain has a null MX."""
        return self._resolver is not None and await has_null_mx(domain, self._resolver)

    def way(self, route: str, domain: str) -> str:
        """What a recipient's route is called in a transaction: that of its domain (lower case) where each domain has its own."""
        return f"{route}/{domain}" if isinstance(self._routes.get(route), ByDomain) else route

    def capabilities(self, route: str) -> Capabilities | None:
        """Last known EHLO of the route: the intersection over its servers. None before any."""
        found = self._routes.get(route)
        return found.capabilities if found is not None else self._find(route).capabilities

    def other_capabilities(self) -> list[Capabilities]:
        """What servers offer that no route names: those of a route map and of redirects, as far as they were met."""
        if not self._others:
            return []
        return [known for route in self._others.values() if (known := route.capabilities) is not None]

    async def learn(self, route: str) -> Capabilities:
        """The same, asking the next hop when nothing is known or it is old. LinkError when no server answers.

        Many callers at once make one attempt.
        """
        found = self._find(route)
        now = asyncio.get_running_loop().time()
        known = found.capabilities
        if known is not None and any(pool.is_known(now) for pool in found.pools):
            return known
        task = self._learning.get(route)
        if task is None:
            task = self._learning[route] = asyncio.get_running_loop().create_task(self._learn(route, found))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)
        return found.capabilities or Capabilities()

    def healthy(self, route: str) -> bool:
        """A server of the route answered within HEALTH_AGE."""
        return self._find(route).is_healthy(asyncio.get_running_loop().time())

    def resting(self, route: str) -> int:
        """How many servers of the route rest."""
        return self._find(route).resting

    async def probe(self) -> None:
        """Ask every configured server once, all at the same time; those that do not answer only grow old. Raises nothing."""
        now = asyncio.get_running_loop().time()
        await asyncio.gather(*(route.probe(now) for route in self._routes.values()))

    async def close(self) -> None:
        """Take leave of all next hops; waits a moment for their replies to QUIT."""
        for task in self._learning.values():
            task.cancel()
        pools = list(self._pools.values())
        links = [link for pool in pools for link in pool.links]
        for pool in pools:
            pool.close()
        if links:
            await asyncio.wait([link.closed for link in links], timeout=self._settings.connect_timeout)

    async def _learn(self, name: str, route: Route) -> None:
        try:
            await route.learn()
        except LinkError as error:
            if not isinstance(error, CongestedError) or route.capabilities is None:
                raise
        finally:
            self._learning.pop(name, None)

    def _find(self, name: str) -> Route:
        route = self._routes.get(name) or self._others.get(name)
        if route is not None:
            return route
        above, _, domain = name.rpartition("/")
        parent = self._routes.get(above)
        if isinstance(parent, ByDomain):
            return parent.at(domain)
        try:
            route = self._route(name, (ServerEntry.model_construct(address=name),))
        except ValueError as error:
            raise LinkError(name, f"neither a route nor a server: {error}", enhanced="4.4.4") from error
        if len(self._others) >= MAX_OTHER_ROUTES:
            self._others.pop(next(iter(self._others)))
        self._others[name] = route
        return route

    def _configured(self, route: RouteConfig) -> Route:
        most = route.max_links
        turns = None if most is None else Turns(route.name, most, longest=self._settings.max_waiting)
        decides = "*" in route.domains and route.next_hop_decides is True
        terms = _Terms(turns=turns, source=route.source, setup=LinkSetup.of(route, self._directory), decides=decides)
        if not route.is_by_domain:
            return self._route(route.name, route.entries, terms)
        _, port = route.exchangers or ("", 0)
        exact = [domain for domain in route.domains if "*" not in domain]

        def make(parent: ByDomain, domain: str) -> MxRoute:
            return self._exchangers(f"{route.name}/{domain}", domain, port, terms, parent)

        return ByDomain(route.name, exact, self._settings, make, default=self._name)

    def _exchangers(self, name: str, domain: str, port: int, terms: _Terms, parent: ByDomain | None = None) -> MxRoute:
        def pool(server: Server) -> ServerPool:
            return self._pool(server, terms)

        route = MxRoute(
            name, domain, port, self._settings, draw=self._draw, find=self._look_up, pool=pool, parent=parent, turns=terms.turns
        )
        route.tell(terms.setup.client_address, decides=terms.decides)
        return route

    async def _look_up(self, domain: str, port: int) -> list[Exchange]:
        if self._resolver is None:
            raise LinkError(domain, "there is no resolver", enhanced="4.3.5")
        is_own = partial(self._ourselves.is_at, port=port)
        return await find_exchanges(domain, self._resolver, own_names=(self._ourselves.name,), is_own=is_own)

    def _route(self, name: str, servers: Sequence[ServerEntry], terms: _Terms = _USUAL) -> Route:
        exchangers = parse_mx(servers[0].address)
        if exchangers is not None:
            domain, port = exchangers
            if not domain:
                msg = "\"mx:\" without a domain is a route's, not a server's"
                raise ValueError(msg)
            return self._exchangers(name, domain, port, terms)
        candidates = []
        for one in servers:
            pool = self._pool(parse_server(one.address), terms)
            if one.max_links is not None:
                pool.limit_links(one.max_links)
            candidates.append(Candidate(pool, priority=one.priority or 0, weight=one.weight))
        route = Route(name, candidates, self._settings, draw=self._draw, turns=terms.turns)
        route.tell(terms.setup.client_address, decides=terms.decides)
        return route

    def _pool(self, server: Server, terms: _Terms) -> ServerPool:
        if server.is_inbox:
            if self._inbox is None:
                msg = '"inbox:" is named by a route, and no inbox runs'
                raise ValueError(msg)
            server = Server(*self._inbox)
        server = replace(server, source=terms.source) if terms.source else server
        setup = terms.setup
        key = server, setup, server.mx_name if setup.tls == "verified" else ""  # a certificate is checked against one name
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = ServerPool(server, self._settings, self._name, setup)
        return pool
