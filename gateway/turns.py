"""How much work a turn of the loop has: messages that are complete in the same turn are not all checked in it.

Twenty of them took 15 ms, for which no other client was heard. Whoever finds the turn full waits, in the order of arrival, and goes on
in a later one; between two turns the loop reads what has come.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

LONGEST = 0.003
"""Seconds of work in a turn after which no more of it is begun."""
TOGETHER = 3
"""Who waited and goes on, in one turn."""


class Turns:
    """Used in the loop's thread only."""

    __slots__ = ("_began", "_is_due", "_waiting")

    def __init__(self) -> None:
        self._began = 0.0
        """When work began in this turn; 0: it has not."""
        self._is_due = False
        """`_over` is called with the next turn."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def has_room(self) -> bool:
        """Work may begin now; else `room` is to be awaited."""
        if self._waiting:
            return False
        if self._began:
            return time.perf_counter() - self._began < LONGEST
        self._began = time.perf_counter()
        self._end_with_turn()
        return True

    async def room(self) -> None:
        """Until it is one's turn."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        self._end_with_turn()
        await waiter
        if not self._began:
            self._began = time.perf_counter()
            self._end_with_turn()

    def _end_with_turn(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._over)

    def _over(self) -> None:
        self._is_due = False
        self._began = 0.0
        waiting, going = self._waiting, 0
        while waiting and going < TOGETHER:
            waiter = waiting.popleft()
            if not waiter.done():  # cancelled
                waiter.set_result(None)
                going += 1
        if waiting:
            self._end_with_turn()
