"""A circuit breaker: what failed several times in a row is left alone for a while, then one tries, and the others follow it.

Closed: everybody asks. Open: nobody does, each question is a fault at once. Half open, when the rest is over: the first that comes tries;
its success closes the circuit, its failure begins another rest. It needs no timer and no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum


class Circuit(StrEnum):
    """In which state a breaker is."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """The rest is over, and nobody has tried yet."""


class RestingError(Exception):
    """Nobody is to ask now. The text says since when, for how long, and why."""


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Breaker:
    """Of one thing that may fail. `failures` in a row begin a `rest`; 0: never."""

    def __init__(self, *, failures: int, rest: float, clock: Callable[[], float] = _loop_time) -> None:
        self._most = failures
        self._rest = rest
        self._clock = clock
        self._until: float | None = None
        self.failures = 0
        """In a row."""
        self.problem = ""
        """The last one."""

    @property
    def state(self) -> Circuit:
        """Now."""
        if self._until is None:
            return Circuit.CLOSED
        return Circuit.OPEN if self._clock() < self._until else Circuit.HALF_OPEN

    def enter(self) -> bool:
        """Before each question: whether the caller is the one that tries. RestingError when nobody is to ask now."""
        if self._until is None:
            return False
        now = self._clock()
        if now < self._until:
            told = f"not asked for {self._until - now:.1f} s after {self.failures} failures, the last: {self.problem}"
            raise RestingError(told)
        self._until = now + self._rest  # the others wait for what this one finds
        return True

    def succeeded(self) -> None:
        """It works."""
        self.failures = 0
        self._until = None

    def failed(self, problem: str) -> None:
        """It does not."""
        self.failures += 1
        self.problem = problem
        if self._most and self.failures >= self._most:
            self._until = self._clock() + self._rest

    def let_one_try(self) -> None:
        """End the rest: whoever tried has given up without a result, or there is a sign that it works again."""
        if self._until is not None:
            self._until = self._clock()
