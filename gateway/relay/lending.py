"""Links that wait for a verdict go to those who stand in line for one. RFC 5321 4.5.4.1; design §5.

A message whose content is taken in or looked at has its envelope on a link that does nothing. Where all links are in use, the one
that has rested longest is reset and handed on; with its verdict the lender stands in line as others do, and says its envelope anew.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol

from gateway import metrics

if TYPE_CHECKING:
    from gateway.relay.link import Link

AFTER = 1.0
"""Seconds that a link rests before it is lent: most verdicts are there by then, and an envelope said twice costs the next hop too."""


class Lender(Protocol):
    """A transaction that has a link."""

    def rests_since(self, link: Link) -> float:
        """Loop time since when it needs nothing but its verdict; infinity while it may not be without the link."""
        ...

    def lend(self) -> None:
        """Reset the link and give it back; another one is taken later."""


class Lending:
    """Serves one line. While nobody stands in it, it does nothing and has no timer."""

    def __init__(self, links: Collection[Link], waiting: Callable[[], int]) -> None:
        """`links`: those that the line is for. `waiting`: how many stand in it."""
        self._links = links
        self._waiting = waiting
        self._timer: asyncio.TimerHandle | None = None
        self._may_have_more = False
        """More links had rested long enough than were needed. Else none can before the timer goes off."""

    def somebody_waits(self) -> None:
        """One more stands in the line."""
        if self._timer is None or self._may_have_more:
            self._look()

    def stop(self) -> None:
        """The line is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.stop()
        waiting = self._waiting()
        if not waiting:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        wanted = waiting - sum(link.is_coming_back for link in self._links)
        resting = [(since, link) for link in self._links if (since := _rests_since(link)) < math.inf]
        resting.sort(key=lambda one: one[0])
        again = now + AFTER
        self._may_have_more = False
        for since, link in resting:
            if since + AFTER > now:
                again = since + AFTER
                break
            if wanted <= 0:
                self._may_have_more = True
                break
            if link.lender is not None:
                metrics.LINKS_LENT.inc()
                link.lender.lend()
            wanted -= 1
        self._timer = loop.call_at(again, self._look)


def _rests_since(link: Link) -> float:
    return link.lender.rests_since(link) if link.lender is not None else math.inf
