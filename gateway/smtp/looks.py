"""When sessions are looked at: one timer of the loop for all that began, or ended, within the same stretch of time.

A timer for each connection is made and cancelled for nothing by all that end before it: most of them.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

AT_ONCE = 256
"""Sessions that are looked at before the others of the loop get their turn."""


class LookedAt(Protocol):
    """A session, as far as its limits know it."""

    def look(self) -> None:
        """Is anything due?"""


class Looks:
    """Each session that joins is looked at once, between `least` and `most` seconds later, unless it leaves its group."""

    __slots__ = ("_group", "_joins_until", "_least", "_most")

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most
        self._group: set[LookedAt] = set()
        self._joins_until = 0.0

    def join(self, session: LookedAt, now: float) -> set[LookedAt]:
        """The group that the session is in now, for it to leave. `now`: the loop's time."""
        if now >= self._joins_until:
            self._group = set()
            self._joins_until = now + self._most - self._least
            asyncio.get_running_loop().call_later(self._most, self._look, self._group)
        self._group.add(session)
        return self._group

    def _look(self, group: set[LookedAt]) -> None:
        try:
            for _ in range(min(len(group), AT_ONCE)):
                group.pop().look()
        finally:
            if group:  # more than one turn's, or one of them failed
                asyncio.get_running_loop().call_soon(self._look, group)
