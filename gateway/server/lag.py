"""How late the loop of a worker is: a timer looks twenty times a second and notes it for `/metrics`. It finds nobody guilty; the watchdog does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

EVERY = 0.05
"""Seconds. A hold as long as this is seen for certain, a shorter one as often as it falls on a look."""


class LoopLag:
    """Looks again and again from `start` to `stop`. `note` gets the seconds that a look came late."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, note: Callable[[float], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._note = note
        self._clock = clock
        self._due = 0.0
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The first look is one interval from now."""
        self._due = self._clock() + EVERY
        self._next = self._loop.call_later(EVERY, self._look)

    def _look(self) -> None:
        self._note(max(0.0, self._clock() - self._due))
        self.start()

    def stop(self) -> None:
        """No further look."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
