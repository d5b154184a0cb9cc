"""Which link a transaction gets: places, idle links and the queue for one server. No I/O and no clock (design §5).

The caller opens and closes what this tells it to. A place is reserved before a link is opened, so that no more than
`max_links` are ever open; whoever waits gets the next link that comes back, or the next free place, in order.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from gateway.config.models import RelayConfig


class Reusable(Protocol):
    """What is asked of a link; times are those of the loop, in seconds."""

    opened: float
    idle_since: float
    transactions: int
    refusals: int
    max_transactions: int
    """What its server takes on it; 0: it has no limit."""


L = TypeVar("L", bound=Reusable)
W = TypeVar("W")


class Slots(Generic[L, W]):
    """The places of one server."""

    def __init__(self, settings: RelayConfig) -> None:
        self._idle_limit = settings.idle_limit
        self._max_age = settings.max_age
        self._max_messages = settings.max_messages
        self._max_refusals = settings.max_refusals
        self.max_links = settings.max_links
        self.idle: list[L] = []
        """The one used last is at the end, and is the next to be used."""
        self.taken = 0
        """Links that are idle, in use or being opened."""
        self.waiting: deque[W] = deque()

    @property
    def has_free_slot(self) -> bool:
        """One more link may be opened."""
        return self.taken < self.max_links

    @property
    def has_room(self) -> bool:
        """Nobody would have to wait."""
        return bool(self.idle) or self.has_free_slot

    def reuse(self, now: float) -> tuple[L | None, list[L]]:
        """An idle link, last in first out; and links to close because their time is over."""
        expired: list[L] = []
        while self.idle:
            link = self.idle.pop()
            if now - link.idle_since <= self._idle_limit and now - link.opened <= self._max_age:
                return link, expired
            expired.append(link)
        return None, expired

    def oldest_idle(self) -> list[L]:
        """The idle link to close when a fresh one is wanted and all places are taken."""
        return [self.idle.pop(0)] if self.idle else []

    def expired(self, now: float) -> list[L]:
        """Idle links whose time is over; they are idle no more."""
        limit, age = self._idle_limit, self._max_age
        over = [link for link in self.idle if now - link.idle_since >= limit or now - link.opened > age]
        self.idle = [link for link in self.idle if link not in over]
        return over

    def has_served(self, link: L, now: float) -> bool:
        """The link is retired instead of coming back: its client's guilt is not the next one's."""
        return (
            link.refusals >= self._max_refusals
            or link.transactions >= self._max_messages
            or now - link.opened > self._max_age
            or 0 < link.max_transactions <= link.transactions
        )

    def reserve(self) -> bool:
        """Take a place for a link to be opened; False when there is none."""
        if not self.has_free_slot:
            return False
        self.taken += 1
        return True

    def wait(self, waiter: W) -> None:
        """Queue up for a link or a place."""
        self.waiting.append(waiter)

    def unwait(self, waiter: W) -> None:
        """Leave the queue, wherever one is in it."""
        if waiter in self.waiting:
            self.waiting.remove(waiter)

    def give_back(self, link: L) -> W | None:
        """A clean link comes back; the waiter to hand it to, or None: it is idle now."""
        if self.waiting:
            return self.waiting.popleft()
        self.idle.append(link)
        return None

    def lost(self, link: L) -> None:
        """A link is over; its place is still to be vacated."""
        if link in self.idle:
            self.idle.remove(link)

    def vacate(self) -> W | None:
        """A place is free; the waiter who gets it (it stays taken then), or None."""
        if self.waiting:
            return self.waiting.popleft()
        self.taken -= 1
        return None
