"""A look of `LoopLag` tells by how much it was late, and is followed by another until it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.server.lag import EVERY, LoopLag


class Timers:
    """In the place of a loop: a timer is kept until it is called by hand."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.kept.append((delay, callback))
        return asyncio.TimerHandle(0.0, callback, (), asyncio.get_running_loop())


async def looked_at(*times: float) -> list[float]:
    """What is noted by looks at these times; the first time is that of the start."""
    clock = iter([times[0], *(time for one in times[1:] for time in (one, one))])
    timers = Timers()
    noted: list[float] = []
    lag = LoopLag(timers, noted.append, clock=lambda: next(clock))  # type: ignore[arg-type]  # one of a loop's methods is enough
    lag.start()
    for number in range(len(times) - 1):
        delay, look = timers.kept[number]
        assert delay == EVERY
        look()
    return [round(one, 6) for one in noted]


async def test_a_look_tells_by_how_much_it_was_late() -> None:
    assert await looked_at(10.0, 10.05, 10.12, 10.17) == [0.0, 0.02, 0.0]


async def test_a_look_that_comes_early_is_not_late() -> None:
    assert await looked_at(10.0, 10.049) == [0.0]


async def test_a_held_loop_is_seen_and_nothing_after_the_stop() -> None:
    loop = asyncio.get_running_loop()
    times = iter([0.0, EVERY + 0.3, 1.0])
    seen: asyncio.Future[float] = loop.create_future()
    lag = LoopLag(loop, seen.set_result, clock=lambda: next(times))
    lag.start()
    assert round(await seen, 6) == 0.3
    lag.stop()
    lag.stop()
    assert lag._next is None
