"""Links on which the next hop is told who the client is: a `Links` for one handover, around those of its route. Design §5.

PROXY binds a link to one session, and it is closed after it. XCLIENT is said again before each reuse, with all that the next
hop offers to hear, XFORWARD for each transaction. So nothing that is known of one client is ever seen for another.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import override

from gateway.context import Resolver
from gateway.errors import LinkError
from gateway.relay.connect import introduce
from gateway.relay.identity import ClientFacts, xforward
from gateway.relay.link import Link
from gateway.relay.reverse_names import reverse_name

if TYPE_CHECKING:
    from gateway.relay.route import Route


class OwnLinks:
    """What belongs to one session: the client's name, and links, by route, one each, while they are idle."""

    def __init__(self) -> None:
        self.is_over = False
        """The session has ended."""
        self.name: str | None = None
        """The client's name, once it was looked up."""
        self._idle: dict[str, tuple[Link, Route, asyncio.TimerHandle]] = {}

    def take(self, route: Route) -> Link | None:
        """The session's idle link of a route."""
        link, _, timer = self._idle.pop(route.name, (None, None, None))
        if timer is not None:
            timer.cancel()
        return link

    def keep(self, route: Route, link: Link) -> None:
        """For the session's next transaction, if that comes in time; closed otherwise."""
        if self.is_over or not link.is_usable or route.name in self._idle:
            route.discard(link)
            return
        loop = asyncio.get_running_loop()
        link.idle_since = loop.time()
        timer = loop.call_later(route.settings.idle_limit, self._expire, route.name)
        self._idle[route.name] = (link, route, timer)

    def end(self) -> None:
        """The session is over: no link outlives it."""
        self.is_over = True
        for name in tuple(self._idle):
            self._expire(name)

    def _expire(self, name: str) -> None:
        link, route, timer = self._idle.pop(name)
        timer.cancel()
        route.discard(link)


class ClientLinks:
    """Base: a route's links for one client."""

    lends = False

    def __init__(self, route: Route, client: ClientFacts, own: OwnLinks, resolver: Resolver | None = None) -> None:
        """`resolver`: to look the client's name up, where nobody did."""
        self.settings = route.settings
        self.route = route
        self.client = client
        self._own = own
        self._resolver = resolver

    def __str__(self) -> str:
        return str(self.route)

    def reuse(self) -> Link | None:
        """None: a link has to be told of the client first."""
        return None

    async def acquire(self, *, fresh: bool = False) -> Link:
        """A link whose next hop was told. LinkError."""
        raise NotImplementedError

    def release(self, link: Link) -> None:
        """Back, clean."""
        self.route.release(link)

    def discard(self, link: Link) -> None:
        """Not to be used again."""
        self.route.discard(link)

    async def _find_name(self) -> None:
        """The client's name for the next hop, once a session."""
        if self.client.name or self._resolver is None:
            return
        if self._own.name is None:
            self._own.name = await reverse_name(self.client.address, self._resolver)
        self.client = replace(self.client, name=self._own.name)

    def _unknown_client(self, link: Link | None, why: str) -> LinkError:
        """The next hop is to decide on relaying, and would not know for whom: nothing is said on this link."""
        if link is not None:
            self.route.release(link)
        what = f"{why}, and a stranger's relaying is the next hop's to decide"
        return LinkError(link.next_hop if link is not None else str(self.route), what, enhanced="4.3.5")


class ForwardedLinks(ClientLinks):
    """XFORWARD with each transaction, where it is offered: for logs and filters of the next hop; it decides nothing."""

    lends = True  # the link is nobody's own, and RSET takes back what was forwarded

    @override
    def reuse(self) -> Link | None:
        if not self.client.name and self._resolver is not None:
            return None  # its name is looked up first
        link = self.route.reuse()
        return None if link is None else self._told(link)

    @override
    async def acquire(self, *, fresh: bool = False) -> Link:
        await self._find_name()
        return self._told(await self.route.acquire(fresh=fresh))

    @override
    def release(self, link: Link) -> None:
        link.before_mail = ()
        self.route.release(link)

    def _told(self, link: Link) -> Link:
        offered = link.capabilities.parameters("XFORWARD")
        link.before_mail = tuple(xforward(self.client, offered)) if offered else ()
        return link


class IntroducedLinks(ClientLinks):
    """XCLIENT before the first use for a client, where it is offered: the next hop judges by the client's address."""

    @override
    async def acquire(self, *, fresh: bool = False) -> Link:
        await self._find_name()
        link = await self.route.acquire(fresh=fresh)
        if link.told == self.client.introduction:
            return link
        if not link.capabilities.offers("XCLIENT"):
            if self.route.must_know(self.client):
                raise self._unknown_client(link, "XCLIENT is not offered")
            return link
        try:
            await introduce(link, self.client, self.settings.hello_timeout)
        except BaseException:
            self.route.discard(link)
            raise
        return link

    @override
    def release(self, link: Link) -> None:
        if link.told is not None and not link.capabilities.offers("XCLIENT"):
            self.route.discard(link)  # nobody else could be introduced on it
        else:
            self.route.release(link)


class ProxiedLinks(ClientLinks):
    """A connection of the session's own, which begins with a PROXY header."""

    @override
    def reuse(self) -> Link | None:
        link = self._own.take(self.route)
        if link is None:
            return None
        now = asyncio.get_running_loop().time()
        if link.told == self.client.introduction and link.is_usable and now - link.opened <= self.settings.max_age:
            return link
        self.route.discard(link)
        return None

    @override
    async def acquire(self, *, fresh: bool = False) -> Link:
        if not self.client.address and self.route.must_know(self.client):
            raise self._unknown_client(None, "the client's address is not known")
        link = await self.route.acquire(fresh=True, client=self.client)
        if link.told != self.client.introduction:
            self.route.discard(link)
            raise LinkError(link.next_hop, "a link of another client", enhanced="4.3.5")
        return link

    @override
    def release(self, link: Link) -> None:
        self._own.keep(self.route, link)
