"""Pools of links: who gets which link, when one is retired, which server of a route is asked. RFC 5321 4.5.4.1.

`Slots` decides and does no I/O; `ServerPool` opens and closes; `Route` goes through its servers in order; `Relay` is what a
worker holds. A link is one transaction's at a time, and comes back only clean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from gateway.config.models import RelayConfig, RouteConfig
from gateway.errors import LinkError
from gateway.relay.connect import open_link
from gateway.relay.handover import ClientFacts, Handover
from gateway.relay.link import Link
from gateway.relay.protocol import Capabilities
from gateway.relay.routes import Server, parse_server
from gateway.relay.slots import Slots

CAPABILITIES_AGE = 300.0
"""Seconds after which a server's EHLO is asked for again by `learn` and `probe`."""
HEALTH_AGE = 60.0
"""Seconds: a server that answered within them counts as healthy."""
CONGESTED = "4.4.5"
"""All links are in use: says nothing about the server (RFC 3463 3.5)."""
MAX_OTHER_ROUTES = 64
"""Servers named by plugins (`redirect`) that are remembered at once."""


class ServerPool:
    """The links to one server."""

    def __init__(self, server: Server, settings: RelayConfig, name: str) -> None:
        self.server = server
        self.settings = settings
        self.capabilities: Capabilities | None = None
        self.learnt = 0.0
        self.answered = 0.0
        """Loop time of the last greeting or reply to a probe; 0 when there was none."""
        self.rests_until = 0.0
        self.links: set[Link] = set()
        self._name = name
        self._slots: Slots[Link, asyncio.Future[Link | None]] = Slots(settings)
        self._sweep: asyncio.TimerHandle | None = None

    def reuse(self, now: float) -> Link | None:
        """The link used last, if one is idle."""
        link, expired = self._slots.reuse(now)
        self._retire(expired)
        return link

    @property
    def has_room(self) -> bool:
        """A link is idle or one more may be opened."""
        return self._slots.has_room

    async def acquire(self, *, fresh: bool) -> Link:
        """A link: idle, new, or the next one that comes back within `wait_limit`. `fresh`: a new one. LinkError."""
        loop = asyncio.get_running_loop()
        if not fresh:
            link = self.reuse(loop.time())
            if link is not None:
                return link
        elif not self._slots.has_free_slot:
            self._retire(self._slots.oldest_idle())
        if self._slots.reserve():
            return await self._open()
        waiter: asyncio.Future[Link | None] = loop.create_future()
        self._slots.wait(waiter)
        try:
            async with asyncio.timeout(self.settings.wait_limit):
                link = await waiter
        except TimeoutError as error:
            self._unwait(waiter)
            what = f"all {self.settings.max_links} links are in use"
            raise LinkError(str(self.server), what, enhanced=CONGESTED) from error
        except BaseException:
            self._unwait(waiter)
            raise
        return link if link is not None else await self._open()

    def release(self, link: Link) -> None:
        """A link comes back clean: for the next transaction, or it has served enough."""
        if link not in self.links:
            return
        loop = asyncio.get_running_loop()
        now = link.idle_since = self.answered = loop.time()
        if not link.is_usable or self._slots.has_served(link, now):
            self.discard(link)
            return
        while (waiter := self._slots.give_back(link)) is not None:
            if not waiter.done():
                waiter.set_result(link)
                return
        if self._sweep is None:
            self._sweep = loop.call_later(self.settings.idle_limit, self._close_expired)

    def discard(self, link: Link) -> None:
        """A link that is not used again: QUIT if that is possible, and its place is free."""
        self._forget(link)
        link.quit()

    async def probe(self) -> None:
        """See whether the server answers: NOOP on an idle link, or a new link. LinkError."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        fresh = self.capabilities is None or now - self.learnt > CAPABILITIES_AGE
        if not fresh and self.answered and now - self.answered < HEALTH_AGE / 4:
            return
        link = await self.acquire(fresh=fresh)
        if link.idle_since:
            reply = await link.ask(b"NOOP", self.settings.connect_timeout, last=True)
            if not reply.is_positive:
                self.discard(link)
                raise LinkError(str(self.server), f"NOOP answered with {reply}")
        self.rests_until = 0.0
        self.release(link)

    def close(self) -> None:
        """Take leave on every link; those in use are cut."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for link in tuple(self.links):
            self.discard(link)

    async def _open(self) -> Link:
        """A new link on a reserved place; a failure lets the server rest."""
        loop = asyncio.get_running_loop()
        timeout = self.settings.connect_timeout
        try:
            link = await open_link(self.server, name=self._name, connect_timeout=timeout, on_lost=self._forget)
        except LinkError:
            self.rests_until = loop.time() + self.settings.rest
            self._vacate()
            raise
        except BaseException:
            self._vacate()
            raise
        self.links.add(link)
        self.rests_until = 0.0
        self.capabilities = link.capabilities
        self.answered = self.learnt = loop.time()
        return link

    def _forget(self, link: Link) -> None:
        """The link is over (or will be): it takes no place any more."""
        if link in self.links:
            self.links.discard(link)
            self._slots.lost(link)
            self._vacate()

    def _vacate(self) -> None:
        while (waiter := self._slots.vacate()) is not None:
            if not waiter.done():
                waiter.set_result(None)
                return

    def _unwait(self, waiter: asyncio.Future[Link | None]) -> None:
        """The waiter gave up; what it was handed at the last moment is not lost."""
        self._slots.unwait(waiter)
        if waiter.done() and not waiter.cancelled():
            link = waiter.result()
            if link is None:
                self._vacate()
            else:
                self.release(link)

    def _retire(self, links: Sequence[Link]) -> None:
        for link in links:
            self.discard(link)

    def _close_expired(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        self._retire(self._slots.expired(loop.time()))
        if self._slots.idle:
            self._sweep = loop.call_later(self.settings.idle_limit, self._close_expired)


class Route:
    """A route's servers in order: the first that does not rest and has room, then the others, resting ones last."""

    def __init__(self, name: str, pools: Sequence[ServerPool], settings: RelayConfig) -> None:
        self.name = name
        self.pools = tuple(pools)
        self.settings = settings
        self._owners: dict[Link, ServerPool] = {}

    def __str__(self) -> str:
        return str(self.pools[0].server)

    def reuse(self) -> Link | None:
        """At once, an idle link of the server that comes first now."""
        now = asyncio.get_running_loop().time()
        for pool in self.pools:
            if pool.rests_until <= now:
                return self._owned(pool, pool.reuse(now))
        return None

    async def acquire(self, *, fresh: bool = False) -> Link:
        """A link to some server of the route. LinkError of the last one when all fail."""
        now = asyncio.get_running_loop().time()
        awake = [pool for pool in self.pools if pool.rests_until <= now]
        resting = [pool for pool in self.pools if pool.rests_until > now]
        order = [pool for pool in awake if pool.has_room] + [pool for pool in awake if not pool.has_room] + resting
        error: LinkError | None = None
        for pool in order:
            try:
                link = await pool.acquire(fresh=fresh)
            except LinkError as failed:
                error = failed
            else:
                self._owners[link] = pool
                return link
        raise error or LinkError(self.name, "the route has no server", enhanced="4.4.4")

    def _owned(self, pool: ServerPool, link: Link | None) -> Link | None:
        if link is not None:
            self._owners[link] = pool
        return link

    def release(self, link: Link) -> None:
        """Back to its pool, clean."""
        pool = self._owners.pop(link, None)
        if pool is not None:
            pool.release(link)

    def discard(self, link: Link) -> None:
        """Not to be used again. A server that kept silent past its time rests."""
        pool = self._owners.pop(link, None)
        if pool is not None:
            pool.discard(link)
            if link.is_hung:
                pool.rests_until = asyncio.get_running_loop().time() + self.settings.rest

    @property
    def capabilities(self) -> Capabilities | None:
        """What all its servers offer of which that is known; None when it is known of none."""
        known: Capabilities | None = None
        for pool in self.pools:
            if pool.capabilities is not None:
                known = pool.capabilities if known is None else known.common(pool.capabilities)
        return known


class Relay:
    """All routes of a worker."""

    def __init__(
        self,
        routes: Sequence[RouteConfig],
        settings: RelayConfig,
        *,
        server_name: str,
        inbox_address: tuple[str, int] | None = None,
    ) -> None:
        self._settings = settings
        self._name = server_name
        self._inbox = inbox_address
        self._pools: dict[Server, ServerPool] = {}
        self._routes = {route.name: self._route(route.name, route.servers) for route in routes}
        self._others: dict[str, Route] = {}
        self._learning: dict[str, asyncio.Task[None]] = {}

    def handover(self, route: str, client: ClientFacts) -> Handover:
        """The way of one transaction to the route's next hop. `route` may be a server too, as a plugin's `redirect` names it.

        LinkError when it is neither. The caller ends it with `abandon` in every case.
        """
        return Handover(self._find(route), client)

    def capabilities(self, route: str) -> Capabilities | None:
        """Last known EHLO of the route: the intersection over its servers. None before any."""
        return self._find(route).capabilities

    async def learn(self, route: str) -> Capabilities:
        """The same, asking the next hop when nothing is known or it is old. LinkError when no server answers.

        Many callers at once make one attempt.
        """
        found = self._find(route)
        now = asyncio.get_running_loop().time()
        known = found.capabilities
        if known is not None and any(pool.learnt and now - pool.learnt <= CAPABILITIES_AGE for pool in found.pools):
            return known
        task = self._learning.get(route)
        if task is None:
            task = self._learning[route] = asyncio.get_running_loop().create_task(self._learn(route, found))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)
        return found.capabilities or Capabilities()

    def healthy(self, route: str) -> bool:
        """A server of the route answered within HEALTH_AGE."""
        now = asyncio.get_running_loop().time()
        return any(pool.answered and now - pool.answered <= HEALTH_AGE for pool in self._find(route).pools)

    async def probe(self) -> None:
        """Ask every configured server once, all at the same time; those that do not answer only grow old. Raises nothing."""
        pools = {pool for route in self._routes.values() for pool in route.pools}
        await asyncio.gather(*(_probe(pool) for pool in pools))

    async def close(self) -> None:
        """Take leave of all next hops; waits a moment for their replies to QUIT."""
        for task in self._learning.values():
            task.cancel()
        links = [link for pool in self._pools.values() for link in pool.links]
        for pool in self._pools.values():
            pool.close()
        if links:
            await asyncio.wait([link.closed for link in links], timeout=self._settings.connect_timeout)

    async def _learn(self, name: str, route: Route) -> None:
        try:
            route.release(await route.acquire(fresh=True))
        except LinkError as error:
            if error.enhanced != CONGESTED or route.capabilities is None:
                raise
        finally:
            self._learning.pop(name, None)

    def _find(self, name: str) -> Route:
        route = self._routes.get(name) or self._others.get(name)
        if route is not None:
            return route
        try:
            route = self._route(name, (name,))
        except ValueError as error:
            raise LinkError(name, f"neither a route nor a server: {error}", enhanced="4.4.4") from error
        if len(self._others) >= MAX_OTHER_ROUTES:
            self._others.pop(next(iter(self._others)))
        self._others[name] = route
        return route

    def _route(self, name: str, servers: Sequence[str]) -> Route:
        return Route(name, [self._pool(parse_server(text)) for text in servers], self._settings)

    def _pool(self, server: Server) -> ServerPool:
        if server.is_inbox:
            if self._inbox is None:
                msg = '"inbox:" is named by a route, and no inbox runs'
                raise ValueError(msg)
            server = Server(*self._inbox)
        if server not in self._pools:
            self._pools[server] = ServerPool(server, self._settings, self._name)
        return self._pools[server]


async def _probe(pool: ServerPool) -> None:
    with suppress(LinkError):
        await pool.probe()
