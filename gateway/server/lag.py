"""How late the loop of a worker is, and how much of that it was held by its own process: a timer looks and notes both for `/metrics`.

Late is also who waits for a core that others have; the kernel counts that for each thread. It finds nobody guilty; the watchdog does.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

EVERY = 0.05
"""Seconds between looks at a loop that mostly sleeps. A hold as long as this is seen for certain, a shorter one as often as it falls on a look."""
EVERY_BUSY = 0.005
"""The same for a loop with work: what it waited for a core before a look was due cannot be told from what it waited since, so that time is short."""
BUSY = 0.05
"""A loop with work runs, or waits for a core, for more than this share of the time."""


class Spent(NamedTuple):
    """Seconds of a thread so far."""

    ran: float
    waited: float
    """For a core while it could have run."""


class ThreadTimes:
    """What the calling thread has spent, as the kernel counts it: two microseconds a look. Without Linux, what it ran alone."""

    def __init__(self) -> None:
        self._file = -1
        with suppress(OSError):
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def knows_waiting(self) -> bool:
        """False where only the time that it ran is known."""
        return self._file >= 0

    def __call__(self) -> Spent:
        """So far."""
        if self._file < 0:
            return Spent(time.thread_time(), 0.0)
        ran, waited, _ = os.pread(self._file, 100, 0).split()
        return Spent(int(ran) * 1e-9, int(waited) * 1e-9)

    def close(self) -> None:
        """No further look."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class LoopLag:
    """Looks again and again from `start` to `stop`, all in the loop's thread. `note` gets the seconds that a look came late, and those of them
    that the loop was held: all but those in which its thread waited for a core.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        note: Callable[[float, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        times: ThreadTimes | None = None,
    ) -> None:
        self._loop = loop
        self._note = note
        self._clock = clock
        self._times = times or ThreadTimes()
        self._spent = Spent(0.0, 0.0)
        self._looked = 0.0
        self._due = 0.0
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The first look is one interval from now."""
        self._spent, self._looked = self._times(), self._clock()
        self._look_after(EVERY)

    def _look_after(self, interval: float) -> None:
        self._due = self._looked + interval
        self._next = self._loop.call_later(interval, self._look)

    def _look(self) -> None:
        before, began = self._spent, self._looked
        now, spent = self._clock(), self._times()
        late = max(0.0, now - self._due)
        ran, waited = spent.ran - before.ran, spent.waited - before.waited
        self._note(late, max(0.0, late - waited) if self._times.knows_waiting else min(late, ran))
        self._spent, self._looked = spent, now
        self._look_after(EVERY_BUSY if ran + waited > BUSY * (now - began) else EVERY)

    def stop(self) -> None:
        """No further look."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._times.close()
