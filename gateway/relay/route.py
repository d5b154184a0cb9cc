"""A route: its servers, which of them a message is given to, and the links that are out. RFC 5321 5.1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway.config.models import RelayConfig
from gateway.errors import LinkError
from gateway.relay.choosing import Candidate
from gateway.relay.identity import ClientFacts
from gateway.relay.link import Link
from gateway.relay.links_out import LinksOut
from gateway.relay.protocol import Capabilities
from gateway.relay.queueing import CongestedError, Turns, stand_in_line
from gateway.relay.server_pool import ServerPool


class Route(LinksOut):
    """The servers of a route by priority and weight; those that rest are tried when no other one does it."""

    def __init__(
        self,
        name: str,
        candidates: Sequence[Candidate[ServerPool]],
        settings: RelayConfig,
        *,
        draw: Callable[[], float],
        turns: Turns | None = None,
    ) -> None:
        """`turns`: how many links it has out at once, over all its servers; None: what the servers allow."""
        super().__init__(candidates, draw=draw, turns=turns)
        self.name = name
        self.settings = settings
        self.lends = True
        self._in_common: tuple[list[Capabilities | None], Capabilities | None] = ([], None)
        """What each of its servers offered when that was looked at last, and what they had in common."""
        self._avoided: ServerPool | None = None
        """The server whose new link failed last: a replay goes to another one, also where the server does not rest for it."""
        self.client_address = "received"
        self._decides = False

    def tell(self, client_address: str, *, decides: bool) -> None:
        """How the next hop is told who the client is; `decides`: it refuses strangers' relaying itself."""
        self.client_address = client_address
        self._decides = decides

    def must_know(self, client: ClientFacts) -> bool:
        """No mail of this client goes there unless the next hop is told who it is."""
        return self._decides and client.is_stranger

    def __str__(self) -> str:
        return str(self._candidates[0].server.server) if self._candidates else self.name

    @property
    def pools(self) -> list[ServerPool]:
        """Its servers."""
        return [one.server for one in self._candidates]

    async def acquire(self, *, fresh: bool = False, client: ClientFacts | None = None) -> Link:
        """A link to some server of the route, `fresh`: a new one, `client`: opened for it alone. LinkError of the last one when all fail.

        Where all links are in use, the next one that comes back within `wait_limit`, in the order of those who wait.
        """
        until = asyncio.get_running_loop().time() + self.settings.wait_limit
        if self._turns is not None:
            await self._turns.wait(self.settings.wait_limit)
        try:
            pool, link = await self._choose(until, fresh=fresh, client=client)
        except BaseException:
            self._give_turn()
            raise
        self._own(link, pool)
        return link

    async def _choose(self, until: float, *, fresh: bool, client: ClientFacts | None) -> tuple[ServerPool, Link]:
        """One with room, else the line of those without, else one that rests."""
        order = self._in_order(await self._find())
        if fresh:
            avoided, self._avoided = self._avoided, None
            if avoided in order:
                order.remove(avoided)
                order.append(avoided)
        elif (drawn := self._take_drawn()) in order:
            order.remove(drawn)
            order.insert(0, drawn)
        error: LinkError | None = None
        resting = [pool for pool in order if pool.health.is_resting]
        for pools in ([pool for pool in order if pool not in resting], resting):
            full: list[ServerPool] = []
            for pool in pools:
                try:
                    return pool, await pool.acquire(fresh=fresh, client=client)
                except LinkError as failed:
                    error = failed
                    if isinstance(failed, CongestedError):
                        full.append(pool)
            if full:
                try:
                    return await self._stand_in_line(full, until, client)
                except LinkError as failed:
                    error = failed
        raise error or LinkError(self.name, "the route has no server", enhanced="4.4.4")

    async def _stand_in_line(
        self, pools: Sequence[ServerPool], until: float, client: ClientFacts | None
    ) -> tuple[ServerPool, Link]:
        seconds = max(0.0, until - asyncio.get_running_loop().time())
        pool, link = await stand_in_line(pools, seconds=seconds, longest=self.settings.max_waiting)
        return pool, link if link is not None else await pool.open(client)

    def discard(self, link: Link) -> None:
        """Not to be used again. A server whose doing that was rests."""
        pool = self._owners.pop(link, None)
        if pool is not None:
            if not link.idle_since and (link.is_lost or link.leaving):
                self._avoided = pool
            pool.failed(link)
            pool.discard(link)
            self._give_turn(link)

    async def learn(self) -> None:
        """Ask a server for its EHLO, on a new link, which is kept. LinkError."""
        self.release(await self.acquire(fresh=True))

    def is_healthy(self, now: float) -> bool:
        """A server answered within HEALTH_AGE."""
        return any(pool.is_healthy(now) for pool in self.pools)

    async def probe(self, now: float) -> None:
        """Ask every server; those that do not answer only grow old. One that rests is left to its own probes, unless all rest."""
        awake = [pool for pool in self.pools if not pool.health.is_resting]
        await asyncio.gather(*(_probe(pool, now) for pool in awake or self.pools))

    @property
    def capabilities(self) -> Capabilities | None:
        """What all its servers offer of which that is known; None when it is known of none."""
        return self._known()

    def _known(self) -> Capabilities | None:
        candidates = self._candidates
        if len(candidates) == 1:
            return candidates[0].server.capabilities
        offered = [one.server.capabilities for one in candidates]
        before, common = self._in_common
        if offered == before:
            return common
        common = None
        for each in offered:
            if each is not None:
                common = each if common is None else common.common(each)
        self._in_common = (offered, common)
        return common

    @property
    def resting(self) -> int:
        """How many of its servers rest."""
        return sum(pool.health.is_resting for pool in self.pools)

    async def _find(self) -> Sequence[Candidate[ServerPool]]:
        """The servers; looked up where they are not fixed. LinkError."""
        return self._candidates


async def _probe(pool: ServerPool, now: float) -> None:
    """Routes may share a server: it is asked once in a round."""
    if pool.probed != now:
        pool.probed = now
        with suppress(LinkError):
            await pool.probe()
