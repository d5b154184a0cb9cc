"""The order of checks: all at once, save that one which needs another's findings waits for them.

A check that takes no `message` needs the envelope only. It begins when the content does (DATA, or the first chunk), so that its
look-ups are under way while the octets arrive; `Begun` is what comes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from gateway.answers import ARGUMENTS
from gateway.judging import dependencies

if TYPE_CHECKING:
    from gateway.steps import Step

Ask = Callable[[int], Awaitable[None]]
"""Run the check of this number, whatever comes of it."""

_MESSAGE = ARGUMENTS["check"].index("message")


class Begun:
    """Checks that run while the content arrives. Ended by `Order.run`, or by `cancel` when the transaction ends before."""

    __slots__ = ("order", "task")

    def __init__(self, order: Order, task: asyncio.Task[None]) -> None:
        self.order = order
        self.task = task

    def cancel(self) -> None:
        """Nobody waits for the findings any more. Twice is harmless."""
        self.task.cancel()


class Order:
    """The checks of one chain, by number, and what each waits for. ValueError when they wait for each other."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._waits_for = dependencies(steps)
        self._awaited_by = [
            [later for later, needed in enumerate(self._waits_for) if number in needed] for number in range(len(steps))
        ]
        early: set[int] = set()
        for _ in steps:  # as often as the longest line of those that wait for each other
            early |= {
                number
                for number, step in enumerate(steps)
                if step.pick is not None and _MESSAGE not in step.pick and self._waits_for[number] <= early
            }
        self.early = tuple(sorted(early))
        """Checks that need no content, nor what only the content tells."""
        self.row = next(
            (number for number, needed in enumerate(self._waits_for) if any(one > number for one in needed)), len(steps)
        )
        """So many checks from the first on need nothing of a later one: they may be run one after the other."""
        self._all = tuple(range(len(steps)))
        self._late = tuple(number for number in self._all if number not in early)
        self._lines = frozenset(
            numbers
            for numbers in (self._all, self._late, self.early)
            if all(one in self._waits_for[later] for one, later in pairwise(numbers))
        )
        """Those of which each waits for the one before: nothing is gained by tasks for them."""

    def begin(self, ask: Ask) -> Begun:
        """Run the early ones in a task of their own."""
        return Begun(self, asyncio.get_running_loop().create_task(self._run(self.early, ask, None), name="early checks"))

    async def run(self, ask: Ask, begun: Begun | None = None) -> None:
        """Run all of them, or those that have not begun; all have ended when this returns."""
        if begun is None or begun.order is not self:
            await self._run(self._all, ask, None)
        elif begun.task.done() or not self._late:
            await begun.task
            await self._run(self._late, ask, None)
        else:
            await self._run(self._late, ask, begun)

    async def run_from(self, first: int, ask: Ask, *, is_begun: bool) -> None:
        """Run those from this number on, all before having ended; all have ended when this returns.

        `is_begun`: the first was begun in this task, and goes on in it.
        """
        await self._run(self._all[first:], ask, None, first if is_begun else None)

    async def _run(self, numbers: tuple[int, ...], ask: Ask, begun: Begun | None, here: int | None = None) -> None:
        if begun is None and (len(numbers) <= 1 or (here is None and numbers in self._lines)):
            for number in numbers:
                await ask(number)
            return
        under_way = {*numbers, *self.early} if begun is not None else set(numbers)
        missing = {number: len(self._waits_for[number] & under_way) for number in numbers}

        def release(number: int) -> None:
            for later in self._awaited_by[number]:
                if later in missing:
                    missing[later] -= 1
                    if not missing[later]:
                        group.create_task(follow(later))

        async def follow(number: int) -> None:
            await ask(number)
            release(number)

        async def follow_begun(task: asyncio.Task[None]) -> None:
            await task
            for number in self.early:
                release(number)

        async with asyncio.TaskGroup() as group:
            for number, count in list(missing.items()):
                if not count and number != here:
                    group.create_task(follow(number))
            if begun is not None:
                group.create_task(follow_begun(begun.task))
            if here is not None:
                await follow(here)
