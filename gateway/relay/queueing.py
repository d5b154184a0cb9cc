"""Waiting for a link when all are in use: in order, not for ever, and not in any number. RFC 5321 4.5.4.1; design §5.

A message that may go to several servers stands in line at each of them and takes what comes first. Beside the places at a server there
may be a limit on what a route has out at once, `Turns`, with a line of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.errors import LinkError
from gateway.relay.lending import Lending
from gateway.relay.link import Link

if TYPE_CHECKING:
    from gateway.relay.server_pool import ServerPool

Waiter = asyncio.Future["tuple[ServerPool, Link | None]"]
"""Who stands in line gets a link of a server, or with None a place there to open one."""


class CongestedError(LinkError):
    """All links are in use, and the wait was too long or the line is: says nothing about the server (RFC 3463 3.4)."""

    def __init__(self, next_hop: str, what: str) -> None:
        super().__init__(next_hop, what, enhanced="4.3.2")


async def stand_in_line(pools: Sequence[ServerPool], *, seconds: float, longest: int) -> tuple[ServerPool, Link | None]:
    """What the first of these servers hands over, in the order of those who came. At most `longest` stand at each. LinkError."""
    lines = [pool for pool in pools if pool.waiting < longest]
    if not lines:
        raise CongestedError(str(pools[0].server), f"all links are in use, and {longest} wait for one already")
    waiter: Waiter = asyncio.get_running_loop().create_future()
    for pool in lines:
        pool.stand(waiter)
    try:
        async with asyncio.timeout(seconds):
            found = await waiter
    except BaseException as error:
        for pool in lines:
            pool.step_out(waiter)
        if waiter.done() and not waiter.cancelled():  # handed over in this very moment
            pool, link = waiter.result()
            pool.take_back(link)
        if isinstance(error, TimeoutError):
            what = f"all links are in use, none came back in {seconds:g} s"
            raise CongestedError(str(pools[0].server), what) from error
        raise
    for pool in lines:
        pool.step_out(waiter)
    return found


class Turns:
    """So many at once, the others in order."""

    def __init__(self, name: str, limit: int, *, longest: int) -> None:
        self._name = name
        self._free = limit
        self._longest = longest
        self._line: deque[asyncio.Future[None]] = deque()
        self.out: set[Link] = set()
        """The links that have a turn."""
        self._lending = Lending(self.out, lambda: len(self._line))

    def take(self) -> bool:
        """A turn at once; False when one has to wait."""
        if self._free and not self._line:
            self._free -= 1
            return True
        return False

    async def wait(self, seconds: float) -> None:
        """A turn, in order. LinkError when it takes too long, or too many wait."""
        if self.take():
            return
        if len(self._line) >= self._longest:
            raise CongestedError(self._name, f"the route has its links out, and {self._longest} wait for one")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._lending.somebody_waits()
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn in self._line:
                self._line.remove(turn)
            elif turn.done() and not turn.cancelled():
                self.give()
            if isinstance(error, TimeoutError):
                raise CongestedError(self._name, f"the route had its links out for {seconds:g} s") from error
            raise

    def give(self) -> None:
        """A turn is over: the next one's."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
