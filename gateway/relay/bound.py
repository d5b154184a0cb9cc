"""The one link of a client that authenticates: nobody else's before it ends, and ended with the session. RFC 4954 4, design §5."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import LinkError
from gateway.relay.link import Link
from gateway.smtp.replies import Reply

if TYPE_CHECKING:
    from gateway.config.models import RelayConfig
    from gateway.relay.handover import Links


class BoundLink:
    """What a handover needs of a route, with one link. `on_lost` is called once, when the link is lost and not closed by `close`."""

    def __init__(self, route: str, links: Links, link: Link, on_lost: Callable[[], None]) -> None:
        self.route = route
        self.settings: RelayConfig = links.settings
        self.lends = False
        self._links = links
        self._link = link
        self._on_lost: Callable[[], None] | None = on_lost
        self._is_free = True
        self._waiter: asyncio.Future[None] | None = None
        link.allow_long_lines()
        link.closed.add_done_callback(lambda _: self._lost())

    def __str__(self) -> str:
        return self._link.next_hop

    async def ask(self, line: bytes, limit: float) -> Reply:
        """The reply to one line that is no part of a transaction. LinkError."""
        return await self._link.ask(line, limit, last=True)

    def reuse(self) -> Link | None:
        """The link, where no other transaction of this client has it."""
        if not self._is_free or not self._link.is_usable:
            return None
        self._is_free = False
        return self._link

    async def acquire(self, *, fresh: bool = False) -> Link:
        """The link as soon as it is free. There is no other one: LinkError when it is lost."""
        while not fresh and self._link.error is None and not self._link.leaving:
            link = self.reuse()
            if link is not None:
                return link
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        raise LinkError(str(self), "the link that the client authenticated on is lost", enhanced="4.4.2")

    def release(self, link: Link) -> None:
        """A transaction is over; the link waits for the next one."""
        if link.error is not None or link.leaving:
            self.discard(link)
            return
        self._is_free = True
        self._wake()

    def discard(self, link: Link) -> None:
        """The link is not to be used again, so neither is the session."""
        self._links.discard(link)
        self._lost()

    def close(self, *, cut: bool = False) -> None:
        """The session ends or the authentication failed. `cut`: inside an exchange, where QUIT would be taken for a response."""
        self._on_lost = None
        if cut:
            self._link.fail(LinkError(str(self), "closed inside AUTH"))
        self._links.discard(self._link)

    def _lost(self) -> None:
        on_lost, self._on_lost = self._on_lost, None
        self._wake()
        if on_lost is not None:
            on_lost()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
