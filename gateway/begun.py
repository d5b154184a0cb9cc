"""Work of a task that is begun, and gone on with, outside of it: where the octets or the answer that it waited for arrive.

Waking a task takes a turn of the loop, and more than what is then done for a small message. So its coroutine is gone on with by
whoever brings the answer of a next hop. Whatever else it waits for is the task's, which takes it over with `await`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def in_task() -> None:
    """To be awaited before anything that needs a task (a time limit does): from here on there is one."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


class Begun(Generic[T]):
    """A coroutine under way. Either `go_on` until it returns something, or await it, once, in a task."""

    __slots__ = ("_is_taken_over", "_work", "since", "waits_for")

    def __init__(self, work: Coroutine[Any, Any, T], since: float) -> None:
        self.since = since
        """Loop time at which it began."""
        self._work = work
        self.waits_for: Any = None
        """What it gave when it was gone on with last."""
        self._is_taken_over = False

    def go_on(self) -> T | None:
        """To what it waits for next, which is in `waits_for` then; its result, when it came to its end. Raises what it raises."""
        try:
            self.waits_for = self._work.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        return None

    def give_up(self) -> None:
        """As a task that is cancelled: it tidies up, and there is no result."""
        with suppress(asyncio.CancelledError, Exception):
            self._work.throw(asyncio.CancelledError())
        self._work.close()

    # ---- for the task that awaits it: the rest of the coroutine, as if it had been awaited from the beginning

    def __await__(self) -> Generator[Any, Any, T]:
        """Its result."""
        return self

    def __iter__(self) -> Begun[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """First what it waits for already: a future, or nothing where it wants another turn."""
        if not self._is_taken_over:
            self._is_taken_over = True
            waits_for = self.waits_for
            if waits_for is None or asyncio.isfuture(waits_for):
                return waits_for
        return self._work.send(value)  # an answer that was to be brought here: it makes a future of that

    def throw(self, *error: Any) -> Any:
        """Into the coroutine."""
        return self._work.throw(*error)

    def close(self) -> None:
        """The task has ended without it."""
        self._work.close()
