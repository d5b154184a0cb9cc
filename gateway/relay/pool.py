"""The relay of a worker: all routes with their servers, and what is known of them. RFC 5321 3.6, 5.1."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway.config.models import RelayConfig, RouteConfig, ServerEntry
from gateway.errors import LinkError
from gateway.relay.choosing import Candidate
from gateway.relay.handover import ClientFacts, Handover
from gateway.relay.protocol import Capabilities
from gateway.relay.route import Route
from gateway.relay.routes import Server, parse_server
from gateway.relay.server_pool import CONGESTED, ServerPool

MAX_OTHER_ROUTES = 64
"""Servers named by plugins (`redirect`) that are remembered at once."""


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
    ) -> None:
        """`draw`: numbers from 0 up to 1, by which one of several equal servers is chosen."""
        self._settings = settings
        self._draw = draw
        self._name = server_name
        self._inbox = inbox_address
        self._pools: dict[Server, ServerPool] = {}
        self._routes = {route.name: self._route(route.name, route.entries) for route in routes}
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
        now = asyncio.get_running_loop().time()
        return any(pool.is_healthy(now) for pool in self._find(route).pools)

    def resting(self, route: str) -> int:
        """How many servers of the route rest."""
        return self._find(route).resting

    async def probe(self) -> None:
        """Ask every configured server once, all at the same time; those that do not answer only grow old. Raises nothing.

        A server that rests is left to its own probes, unless the whole route rests.
        """
        pools: set[ServerPool] = set()
        for route in self._routes.values():
            awake = [pool for pool in route.pools if not pool.health.is_resting]
            pools.update(awake or route.pools)
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
            route = self._route(name, (ServerEntry.model_construct(address=name),))
        except ValueError as error:
            raise LinkError(name, f"neither a route nor a server: {error}", enhanced="4.4.4") from error
        if len(self._others) >= MAX_OTHER_ROUTES:
            self._others.pop(next(iter(self._others)))
        self._others[name] = route
        return route

    def _route(self, name: str, servers: Sequence[ServerEntry]) -> Route:
        candidates = [
            Candidate(self._pool(parse_server(one.address)), priority=one.priority or 0, weight=one.weight) for one in servers
        ]
        return Route(name, candidates, self._settings, draw=self._draw)

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
