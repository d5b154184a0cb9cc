"""Look-ups elsewhere (a database, a directory, another server) with the bounds that mail needs. No I/O of its own.

Answers are remembered for as long as the asker says, one look-up serves all who ask the same at the same time, only so many run at
once, each has a time limit, and what fails again and again is left alone for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.errors import LookupFailedError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MAX_WHY = 300


@dataclass(frozen=True, slots=True)
class _Known(Generic[V]):
    """An answer, and how long it may be used (by the clock)."""

    value: V
    fresh_until: float
    usable_until: float


class Lookup(Generic[K, V]):
    """Ask for the value of a key, or take the answer of a moment ago.

    `ask(key)` gives the value; whatever it raises is a failed look-up. `keep(value)` says for how many seconds it is remembered.

    A failure is `LookupFailedError`, which a hook lets through: `on_error` of the plugin decides then, and the trace has the reason.

    Examples:
        >>> async def ask(address: str) -> bool:
        ...     return address == "bob@example.org"
        >>> known = Lookup(ask, clock=FakeContext().clock, keep=lambda found: 300.0 if found else 60.0)
        >>> await known("bob@example.org"), await known("eve@example.org")
        (True, False)
    """

    def __init__(
        self,
        ask: Callable[[K], Awaitable[V]],
        *,
        clock: Callable[[], float],
        keep: Callable[[V], float],
        limit: float = 5.0,
        at_once: int = 10,
        waiting: int = 500,
        size: int = 20_000,
        stale: float = 0.0,
        failures: int = 5,
        pause: float = 10.0,
    ) -> None:
        """`limit`: seconds of one look-up, its wait for a place among the `at_once` that run included; `waiting`: for a place at most;
        `size`: answers remembered; `stale`: seconds that an old answer serves after its time where no new one can be had; after
        `failures` in a row nothing is asked for `pause` seconds.
        """
        self._ask = ask
        self._clock = clock
        self._keep = keep
        self._limit = limit
        self._room = at_once + waiting
        self._slots = asyncio.Semaphore(at_once)
        self._size = size
        self._stale = stale
        self._failures = failures
        self._pause = pause
        self._known: OrderedDict[K, _Known[V]] = OrderedDict()
        self._running: dict[K, asyncio.Task[V | LookupFailedError]] = {}
        self._failed = 0
        self._not_before = 0.0
        self._why = ""

    async def __call__(self, key: K) -> V:
        """The value. LookupFailedError when it cannot be had now."""
        known = self._known.get(key)
        if known is not None and known.fresh_until > self._clock():
            self._known.move_to_end(key)
            return known.value
        found = await self._fresh(key)
        if not isinstance(found, LookupFailedError):
            return found
        if known is not None and known.usable_until > self._clock():
            return known.value
        raise found

    def forget(self, key: K) -> None:
        """Ask anew the next time."""
        self._known.pop(key, None)

    async def close(self) -> None:
        """End what runs; in `shutdown`, before what is asked is closed."""
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _fresh(self, key: K) -> V | LookupFailedError:
        task = self._running.get(key)
        if task is None:
            if self._clock() < self._not_before:
                return LookupFailedError(f"not asked again yet, since it failed {self._failed} times: {self._why}")
            if len(self._running) >= self._room:
                return LookupFailedError(f"{len(self._running)} look-ups run or wait already")
            task = asyncio.get_running_loop().create_task(self._ask_once(key), name="look-up")
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)  # others wait for it too: one transaction that ends must not end it

    async def _ask_once(self, key: K) -> V | LookupFailedError:
        try:
            async with asyncio.timeout(self._limit), self._slots:
                value = await self._ask(key)
        except TimeoutError:
            return self._fail(f"no answer within {self._limit:g} s")
        except Exception as error:  # noqa: BLE001 - the border to a foreign library: whatever it raises, the look-up failed
            return self._fail(_told(error))
        self._failed = 0
        now = self._clock()
        fresh_until = now + self._keep(value)
        self._known[key] = _Known(value, fresh_until, fresh_until + self._stale)
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return value

    def _fail(self, why: str) -> LookupFailedError:
        self._failed += 1
        self._why = why
        if self._failed >= self._failures:
            self._not_before = self._clock() + self._pause
        return LookupFailedError(why)


def _told(error: Exception) -> str:
    """Kind and first line of an error, on one line, bounded: a server's text may be in it."""
    text = (str(error).splitlines() or [""])[0]
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text[:_MAX_WHY])
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
